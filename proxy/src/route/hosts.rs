//! Something for each host name: exact names before wildcards, longer wildcards before shorter ones.

use std::collections::HashMap;

use portcullis_crds::Hostname;

/// Something for each host name.
#[derive(Debug)]
pub(super) struct Hosts<T> {
    exact: HashMap<Box<[u8]>, T>,
    /// By what names end with, from a dot on.
    wildcard: HashMap<Box<[u8]>, T>,
}

impl<T> Default for Hosts<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcard: HashMap::new() }
    }
}

impl<T: Default> Hosts<T> {
    /// What is there for a name or a wildcard; made if there is nothing yet.
    pub(super) fn entry(&mut self, hostname: &Hostname) -> &mut T {
        match hostname.wildcard_suffix() {
            Some(suffix) => self.wildcard.entry(suffix.as_bytes().into()).or_default(),
            None => self.exact.entry(hostname.as_str().as_bytes().into()).or_default(),
        }
    }
}

impl<T> Hosts<T> {
    /// Whether no name is there.
    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcard.is_empty()
    }

    /// What is there for a canonical host: of the most specific name that stands for it.
    pub(super) fn find(&self, host: &[u8]) -> Option<&T> {
        let exact = self.exact.get(host);
        if exact.is_some() || self.wildcard.is_empty() {
            return exact;
        }
        // A name has at most 127 labels. What is before the first dot is never empty.
        memchr::memchr_iter(b'.', host).filter(|dot| *dot > 0).find_map(|dot| self.wildcard.get(&host[dot..]))
    }

    /// All that is there.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.exact.values_mut().chain(self.wildcard.values_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_name_is_found() {
        let mut hosts = Hosts::<String>::default();
        for name in ["shop.example", "*.shop.example", "*.eu.shop.example", "a.eu.shop.example"] {
            *hosts.entry(&name.parse().unwrap()) = name.to_owned();
        }
        for (host, found) in [
            ("shop.example", Some("shop.example")),
            ("www.shop.example", Some("*.shop.example")),
            ("x.y.shop.example", Some("*.shop.example")),
            ("b.eu.shop.example", Some("*.eu.shop.example")),
            ("a.eu.shop.example", Some("a.eu.shop.example")),
            ("b.a.eu.shop.example", Some("*.eu.shop.example")),
            (".shop.example", None),
            ("xshop.example", None),
            ("example", None),
            ("", None),
        ] {
            assert_eq!(hosts.find(host.as_bytes()).map(String::as_str), found, "{host}");
        }
    }
}

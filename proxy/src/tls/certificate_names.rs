//! The names that a certificate is for (RFC 6125, RFC 9525).

use std::net::IpAddr;

/// DNS names, `*.` before some of them, and addresses. Names are in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CertificateNames {
    pub(super) exact: Vec<Box<str>>,
    /// Without `*.`.
    pub(super) wildcards: Vec<Box<str>>,
    pub(super) addresses: Vec<IpAddr>,
}

impl CertificateNames {
    /// Adds a DNS name. One that no host can have is left out.
    pub(super) fn add(&mut self, name: &str) {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        match name.strip_prefix("*.") {
            // `*` alone and `*.com` of a careless issuer are not for everybody: at least two labels follow.
            Some(rest) if rest.contains('.') && !rest.contains('*') => self.wildcards.push(rest.into()),
            None if !name.is_empty() && !name.contains('*') => self.exact.push(name.into()),
            _ => (),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty() && self.addresses.is_empty()
    }

    /// Whether the certificate is for this host: a name in any case, also with a dot at its end, or an address.
    pub(crate) fn cover(&self, host: &str) -> bool {
        if let Ok(address) = host.parse::<IpAddr>() {
            return self.addresses.contains(&address);
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        self.exact.iter().any(|name| name.eq_ignore_ascii_case(host))
            || parent(host)
                .is_some_and(|parent| self.wildcards.iter().any(|name| name.eq_ignore_ascii_case(parent)))
    }
}

/// The name without its first label, which is what a wildcard stands for: exactly one.
pub(super) fn parent(name: &str) -> Option<&str> {
    name.split_once('.').filter(|(label, _)| !label.is_empty()).map(|(_, parent)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> CertificateNames {
        let mut all = CertificateNames::default();
        names.iter().for_each(|name| all.add(name));
        all.addresses.push([192, 0, 2, 1].into());
        all
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let names = names(&["Shop.example", "*.blog.example", "*.com", "*", "a*.example"]);
        for host in ["shop.example", "SHOP.example.", "a.blog.example", "A.Blog.Example", "192.0.2.1"] {
            assert!(names.cover(host), "{host}");
        }
        for host in
            ["a.shop.example", "blog.example", "a.b.blog.example", ".blog.example", "a.com", "192.0.2.2", ""]
        {
            assert!(!names.cover(host), "{host}");
        }
    }
}

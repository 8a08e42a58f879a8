//! Something for each path: an exact one before prefixes, a longer prefix before a shorter one.

use std::collections::HashMap;

use portcullis_crds::request_match::{PathMatch, PathMatchType};

use super::canonical::canonical_path;

/// Lists of something for each path.
#[derive(Debug)]
pub(super) struct Paths<T> {
    exact: HashMap<Box<[u8]>, Vec<T>>,
    /// Without a slash at the end, so that the root is empty.
    prefix: HashMap<Box<[u8]>, Vec<T>>,
    /// Segments of the longest prefix: a path with thousands of them costs no more look-ups than this.
    most_segments: usize,
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), prefix: HashMap::new(), most_segments: 0 }
    }
}

impl<T> Paths<T> {
    /// What is there for exactly this canonical path.
    pub(super) fn exact(&mut self, path: &[u8]) -> &mut Vec<T> {
        self.exact.entry(path.into()).or_default()
    }

    /// What is there for this canonical path and all below it.
    pub(super) fn prefix(&mut self, path: &[u8]) -> &mut Vec<T> {
        let prefix = path.strip_suffix(b"/").unwrap_or(path);
        self.most_segments = self.most_segments.max(segments(prefix));
        self.prefix.entry(prefix.into()).or_default()
    }

    /// What is there for the paths of a match; for all, if it says nothing of paths.
    pub(super) fn list(&mut self, wanted: Option<&PathMatch>) -> &mut Vec<T> {
        let Some(PathMatch { kind, value }) = wanted else { return self.prefix(b"/") };
        let path = canonical_path(value.as_bytes());
        match kind {
            PathMatchType::Exact => self.exact(&path),
            PathMatchType::PathPrefix => self.prefix(&path),
        }
    }

    /// All lists.
    pub(super) fn lists_mut(&mut self) -> impl Iterator<Item = &mut Vec<T>> {
        self.exact.values_mut().chain(self.prefix.values_mut())
    }

    /// What is there for a canonical path, the most specific first, until `wanted` says that it is the one.
    pub(super) fn find(&self, path: &[u8], mut wanted: impl FnMut(&T) -> bool) -> Option<&T> {
        let mut first = |list: &'_ Vec<T>| list.iter().position(&mut wanted);
        if !self.exact.is_empty()
            && let Some(list) = self.exact.get(path)
            && let Some(at) = first(list)
        {
            return Some(&list[at]);
        }
        let mut prefix = self.longest(path);
        loop {
            if let Some(list) = self.prefix.get(prefix)
                && let Some(at) = first(list)
            {
                return Some(&list[at]);
            }
            // A path begins with a slash, so that the root comes last.
            prefix = &prefix[..memchr::memrchr(b'/', prefix)?];
        }
    }

    /// As much of a path as a prefix can be.
    fn longest<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        let end = memchr::memchr_iter(b'/', path).nth(self.most_segments).unwrap_or(path.len());
        &path[..end]
    }
}

fn segments(prefix: &[u8]) -> usize {
    memchr::memchr_iter(b'/', prefix).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> Paths<&'static str> {
        let mut paths = Paths::default();
        paths.exact(b"/api").push("exact /api");
        paths.prefix(b"/").push("/");
        paths.prefix(b"/api").push("/api");
        paths.prefix(b"/api/v1/").push("/api/v1");
        paths
    }

    #[test]
    fn the_most_specific_path_is_found_by_segment() {
        let paths = paths();
        for (path, found) in [
            ("/", "/"),
            ("/apix", "/"),
            ("/api", "exact /api"),
            ("/api/", "/api"),
            ("/api/v2", "/api"),
            ("/api/v1", "/api/v1"),
            ("/api/v1/", "/api/v1"),
            ("/api/v1/x/y/z", "/api/v1"),
            ("/api/v10", "/api"),
            ("/x/api", "/"),
        ] {
            assert_eq!(paths.find(path.as_bytes(), |_| true), Some(&found), "{path}");
        }
    }

    #[test]
    fn one_that_is_not_wanted_leaves_the_next() {
        let paths = paths();
        let found = |unwanted: &[&str]| paths.find(b"/api", |it| !unwanted.contains(it)).copied();
        assert_eq!(found(&["exact /api"]), Some("/api"));
        assert_eq!(found(&["exact /api", "/api"]), Some("/"));
        assert_eq!(found(&["exact /api", "/api", "/"]), None);
    }

    #[test]
    fn a_path_of_thousands_of_segments_costs_as_many_looks_as_the_longest_prefix_has() {
        let path = "/a".repeat(4_000);
        assert_eq!(paths().longest(path.as_bytes()), b"/a/a");
    }
}

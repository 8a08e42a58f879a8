//! What a request has to be like beside its path.

use http::Method;
use portcullis_crds::request_match;
use portcullis_crds::waf_route::RouteMatch;

use crate::head::RequestHead;

/// Methods and headers that a request has to have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Conditions {
    /// Any, if there are none.
    methods: Vec<Method>,
    /// Name and value.
    headers: Vec<(String, Vec<u8>)>,
}

/// What a request lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unmet<'c> {
    /// One of these methods.
    Method(&'c [Method]),
    /// This header, once and with the value that is wanted.
    Header(&'c str),
}

impl Conditions {
    pub(super) fn of(wanted: &RouteMatch) -> Self {
        let headers =
            wanted.headers.iter().map(|h| (h.name.to_ascii_lowercase(), h.value.clone().into_bytes()));
        Self { methods: methods(&wanted.methods), headers: headers.collect() }
    }

    /// The first of them that the request has not; `None` if it has all.
    pub(super) fn unmet(&self, head: &RequestHead) -> Option<Unmet<'_>> {
        if !self.methods.is_empty() && !self.methods.contains(head.method()) {
            return Some(Unmet::Method(&self.methods));
        }
        let unmet = self.headers.iter().find(|(name, value)| {
            // Of a header that comes twice nobody can say which one the backend reads.
            let mut found = head.fields().get_all(name);
            found.next() != Some(value) || found.next().is_some()
        });
        unmet.map(|(name, _)| Unmet::Header(name))
    }

    /// More specific conditions are greater: methods, then the number of headers.
    pub(super) fn specificity(&self) -> (bool, usize) {
        (!self.methods.is_empty(), self.headers.len())
    }
}

/// The API's methods as requests have them.
pub(super) fn methods(wanted: &[request_match::Method]) -> Vec<Method> {
    let method = |wanted: &request_match::Method| {
        Method::from_bytes(wanted.as_str().as_bytes()).expect("the API's methods are methods")
    };
    wanted.iter().map(method).collect()
}

//! What a request has to be like beside its path.

use http::Method;
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

impl Conditions {
    pub(super) fn of(wanted: &RouteMatch) -> Self {
        let methods = wanted.methods.iter().map(|method| {
            Method::from_bytes(method.as_str().as_bytes()).expect("the API's methods are methods")
        });
        let headers =
            wanted.headers.iter().map(|h| (h.name.to_ascii_lowercase(), h.value.clone().into_bytes()));
        Self { methods: methods.collect(), headers: headers.collect() }
    }

    /// Whether the request has them.
    pub(super) fn hold(&self, head: &RequestHead) -> bool {
        (self.methods.is_empty() || self.methods.contains(head.method()))
            && self.headers.iter().all(|(name, value)| {
                // Of a header that comes twice nobody can say which one the backend reads.
                let mut found = head.fields().get_all(name);
                found.next() == Some(value) && found.next().is_none()
            })
    }

    /// More specific conditions are greater: methods, then the number of headers.
    pub(super) fn specificity(&self) -> (bool, usize) {
        (!self.methods.is_empty(), self.headers.len())
    }
}

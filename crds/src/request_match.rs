//! What routes and rules ask of a request.

// The derive macro repeats each struct inside a private function, where `pub` reaches nobody.
#![allow(unreachable_pub)]

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hostname::Hostname;

/// Which requests a rule judges. All that is given has to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.hostnames) || has(self.paths) || has(self.methods)",
    "give hostnames, paths or methods, or leave match out for a rule that judges every request"
))]
pub struct RuleMatch {
    /// Its host name is one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub hostnames: Vec<Hostname>,

    /// Its path is one of these. What arrives and its canonical form are both looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    pub paths: Vec<PathMatch>,

    /// Its method is one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    pub methods: Vec<Method>,
}

/// A path, compared after escapes that need not be are decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct PathMatch {
    /// How it is compared.
    #[serde(default, rename = "type")]
    pub kind: PathMatchType,

    /// What it is compared with.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = (
        "self.matches('^/[-A-Za-z0-9/._~!$&()*+,;=:@%\\'\\\\[\\\\]|^]*$') && !self.contains('//') && !self.contains('/./') && !self.contains('/../') && !self.endsWith('/.') && !self.endsWith('/..') && !self.contains('%2f') && !self.contains('%2F')",
        "write a path that starts with / and has no empty segments, no . or .. and no %2F, for example /api"
    ))]
    pub value: String,
}

impl PathMatch {
    /// What is wrong with it, if a request that is served cannot have such a path; the API server says the same in CEL.
    pub fn check(&self) -> Result<(), String> {
        let path = self.value.as_str();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@%[]|^".contains(&byte);
        let is_servable = path.len() <= 1024
            && path.starts_with('/')
            && path.bytes().all(allowed)
            && !path.contains("//")
            && !path.split('/').any(|segment| matches!(segment, "." | ".."))
            && !path.to_ascii_lowercase().contains("%2f");
        if is_servable {
            return Ok(());
        }
        Err(format!(
            "expected a path that starts with / and has no empty segments, no . or .. and no %2F, such as /api, found {path:?}"
        ))
    }
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathMatchType {
    /// By segment: `/api` matches `/api` and `/api/x`, and not `/apix`.
    #[default]
    PathPrefix,
    /// As a whole.
    Exact,
}

/// A method (RFC 9110 section 9, RFC 5789).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
    /// OPTIONS.
    Options,
    /// PATCH.
    Patch,
}

impl Method {
    /// As it is sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
        }
    }
}

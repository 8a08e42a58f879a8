//! Subjects of one cluster.

use std::fmt;

use crate::module_digest::ModuleDigest;
use crate::route_key::RouteKey;
use crate::rule_key::RuleKey;

/// Makes and reads the subjects of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subjects {
    cluster: String,
}

/// What a desired-state subject is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DesiredSubject {
    /// One rule.
    Rule(RuleKey),
    /// One route.
    Route(RouteKey),
    /// The checkpoint of the whole set.
    Checkpoint,
    /// The epoch counter.
    Epoch,
    /// Something that this version does not know. It stands in the stream all the same, and has a sequence there.
    Unsupported(String),
}

impl fmt::Display for DesiredSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(key) => write!(f, "rule {key}"),
            Self::Route(key) => write!(f, "route {key}"),
            Self::Checkpoint => f.write_str("checkpoint"),
            Self::Epoch => f.write_str("epoch"),
            Self::Unsupported(subject) => f.write_str(subject),
        }
    }
}

impl Subjects {
    /// `cluster` is the uid of the kube-system namespace.
    pub fn new(cluster: &str) -> Self {
        Self { cluster: escape(cluster) }
    }

    /// Where the leader writes a rule.
    pub fn rule(&self, key: &RuleKey) -> String {
        // No namespace is called `_`: Kubernetes names start with a letter or digit.
        let namespace = key.namespace.as_deref().map_or_else(|| "_".to_owned(), escape);
        format!("portcullis.desired.{}.rule.{namespace}.{}", self.cluster, escape(&key.name))
    }

    /// Where the leader writes a route.
    pub fn route(&self, key: &RouteKey) -> String {
        format!("portcullis.desired.{}.route.{}.{}", self.cluster, escape(&key.namespace), escape(&key.name))
    }

    /// Where the leader writes the checkpoint.
    pub fn checkpoint(&self) -> String {
        format!("portcullis.desired.{}.checkpoint", self.cluster)
    }

    /// Where a new leader takes the next epoch.
    pub fn epoch(&self) -> String {
        format!("portcullis.desired.{}.epoch", self.cluster)
    }

    /// All desired state; what the stream collects.
    pub fn all_desired(&self) -> String {
        format!("portcullis.desired.{}.>", self.cluster)
    }

    /// Where the server republishes accepted writes: what agents subscribe to.
    pub fn all_deployed(&self) -> String {
        format!("wasm.rule.deploy.{}.>", self.cluster)
    }

    /// One chunk of a module, counted from 0.
    pub fn chunk(&self, digest: &ModuleDigest, index: u32) -> String {
        format!("portcullis.module.{}.{}.{index}", self.cluster, digest.hex())
    }

    /// All chunks of one module.
    pub fn chunks(&self, digest: &ModuleDigest) -> String {
        format!("portcullis.module.{}.{}.*", self.cluster, digest.hex())
    }

    /// The module that a subject of [`Self::chunk`] is about; `None` for one of another shape.
    pub fn parse_chunk(&self, subject: &str) -> Option<ModuleDigest> {
        let rest =
            subject.strip_prefix("portcullis.module.")?.strip_prefix(&self.cluster)?.strip_prefix('.')?;
        let (hex, index) = rest.split_once('.')?;
        index.parse::<u32>().ok()?;
        format!("sha256:{hex}").parse().ok()
    }

    /// The first chunk of each module.
    pub fn first_chunks(&self) -> String {
        format!("portcullis.module.{}.*.0", self.cluster)
    }

    /// All modules; what the stream collects.
    pub fn all_modules(&self) -> String {
        format!("portcullis.module.{}.>", self.cluster)
    }

    /// Where one agent reports.
    pub fn report(&self, agent: &str) -> String {
        format!("portcullis.report.{}.{}", self.cluster, escape(agent))
    }

    /// Reports of all agents.
    pub fn all_reports(&self) -> String {
        format!("portcullis.report.{}.*", self.cluster)
    }

    /// Where one agent is asked for what it runs.
    pub fn recall(&self, agent: &str) -> String {
        format!("portcullis.recall.{}.{}", self.cluster, escape(agent))
    }

    /// Where all agents are asked.
    pub fn all_recalls(&self) -> String {
        format!("portcullis.recall.{}.*", self.cluster)
    }

    /// What a subject under [`Self::all_desired`] or [`Self::all_deployed`] is about; `None` for one of another cluster.
    pub fn parse_desired(&self, subject: &str) -> Option<DesiredSubject> {
        let rest = subject
            .strip_prefix("portcullis.desired.")
            .or_else(|| subject.strip_prefix("wasm.rule.deploy."))?
            .strip_prefix(&self.cluster)?
            .strip_prefix('.')?;
        Some(parse_known(rest).unwrap_or_else(|| DesiredSubject::Unsupported(rest.to_owned())))
    }
}

/// The part of a subject after the cluster; `None` for one that this version does not know.
fn parse_known(rest: &str) -> Option<DesiredSubject> {
    let mut tokens = rest.split('.');
    let parsed = match tokens.next()? {
        "checkpoint" => DesiredSubject::Checkpoint,
        "epoch" => DesiredSubject::Epoch,
        "rule" => {
            let namespace = tokens.next()?;
            let namespace = if namespace == "_" { None } else { Some(unescape(namespace)?) };
            DesiredSubject::Rule(RuleKey { namespace, name: unescape(tokens.next()?)? })
        }
        "route" => {
            let namespace = unescape(tokens.next()?)?;
            DesiredSubject::Route(RouteKey { namespace, name: unescape(tokens.next()?)? })
        }
        _ => return None,
    };
    tokens.next().is_none().then_some(parsed)
}

/// One subject token: letters, digits, `-` and `_` as they are, everything else as `%XX`.
/// (NATS gives `.`, `*`, `>` and white space a meaning of their own; names of objects contain dots.)
fn escape(token: &str) -> String {
    let mut out = String::with_capacity(token.len());
    for byte in token.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => out.push(byte.into()),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

fn unescape(token: &str) -> Option<String> {
    let mut out = Vec::with_capacity(token.len());
    let mut bytes = token.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_dots_stay_one_token_and_come_back() {
        let subjects = Subjects::new("3f0c");
        let key = RuleKey::namespaced("shop", "bad-bot.v1.2");
        let subject = subjects.rule(&key);
        assert_eq!(subject, "portcullis.desired.3f0c.rule.shop.bad-bot%2Ev1%2E2");
        assert_eq!(subjects.parse_desired(&subject), Some(DesiredSubject::Rule(key)));
    }

    #[test]
    fn a_route_has_a_subject_of_its_own() {
        let subjects = Subjects::new("3f0c");
        let key = RouteKey::new("shop", "web.v1");
        let subject = subjects.route(&key);
        assert_eq!(subject, "portcullis.desired.3f0c.route.shop.web%2Ev1");
        assert_eq!(subjects.parse_desired(&subject), Some(DesiredSubject::Route(key)));
    }

    #[test]
    fn republished_subjects_read_as_the_written_ones() {
        let subjects = Subjects::new("3f0c");
        let cluster_rule = RuleKey { namespace: None, name: "a".into() };
        let written = subjects.rule(&cluster_rule);
        let republished = written.replace("portcullis.desired", "wasm.rule.deploy");
        assert_eq!(subjects.parse_desired(&republished), Some(DesiredSubject::Rule(cluster_rule)));
        assert_eq!(subjects.parse_desired("wasm.rule.deploy.3f0c.epoch"), Some(DesiredSubject::Epoch));
    }

    #[test]
    fn a_chunk_names_its_module() {
        let (subjects, digest) = (Subjects::new("3f0c"), ModuleDigest::of(b"module"));
        assert_eq!(subjects.parse_chunk(&subjects.chunk(&digest, 7)), Some(digest.clone()));
        assert_eq!(Subjects::new("3f0d").parse_chunk(&subjects.chunk(&digest, 7)), None);
        for other in [subjects.chunks(&digest), subjects.all_modules(), subjects.epoch()] {
            assert_eq!(subjects.parse_chunk(&other), None, "{other}");
        }
    }

    #[test]
    fn subjects_of_another_cluster_are_not_ours() {
        let subjects = Subjects::new("3f0c");
        for foreign in ["portcullis.desired.3f0d.rule.shop.a", "portcullis.desired.3f0c2.epoch"] {
            assert_eq!(subjects.parse_desired(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_subject_of_another_kind_or_shape_is_unsupported_by_its_name() {
        let subjects = Subjects::new("3f0c");
        for unknown in ["rule.shop", "rule.shop.a.b", "rule.shop.%ZZ", "route.shop", "policy.shop.a"] {
            let found = subjects.parse_desired(&format!("portcullis.desired.3f0c.{unknown}"));
            assert_eq!(found, Some(DesiredSubject::Unsupported(unknown.to_owned())));
        }
    }
}

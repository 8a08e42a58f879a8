//! The revision of a rule that is on its way to become the stable one.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::revision_spec::RevisionSpec;
use crate::revision::Revision;

/// A revision that nodes hold ready beside the stable one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Names it, as the envelope's `revision` names the stable one.
    pub revision: Revision,
    /// What it is.
    #[serde(flatten)]
    pub spec: RevisionSpec,
    /// Share of the clients for which it is enforced in place of the stable one.
    pub weight: Share,
    /// How it runs beside the stable one without effect; `None` if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
}

/// A candidate that runs beside the stable revision: verdicts are compared, never acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shadow {
    /// Share of the requests on which it runs.
    pub sample: Share,
}

/// A share in basis points, from 0 to 10,000: 250 are 2.5 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Share(u16);

/// More than all.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("expected a share in basis points, from 0 to {most}, found {0}", most = Share::ALL.0)]
pub struct ShareTooLarge(u16);

impl Share {
    /// None.
    pub const NONE: Self = Self(0);
    /// All.
    pub const ALL: Self = Self(10_000);

    /// In basis points.
    pub fn basis_points(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Share {
    type Error = ShareTooLarge;

    fn try_from(basis_points: u16) -> Result<Self, ShareTooLarge> {
        if basis_points <= Self::ALL.0 { Ok(Self(basis_points)) } else { Err(ShareTooLarge(basis_points)) }
    }
}

impl From<Share> for u16 {
    fn from(share: Share) -> Self {
        share.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_all_is_refused() {
        let read = |json: &str| serde_json::from_str::<Share>(json).map(Share::basis_points).ok();
        assert_eq!((read("0"), read("10000")), (Some(0), Some(10_000)));
        for wrong in ["10001", "70000", "-1", "0.5", "\"1\""] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}

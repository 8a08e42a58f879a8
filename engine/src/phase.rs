//! The moments of a request at which rules run (module ABI 2).

use std::fmt;

use portcullis_view::{SectionId, Sections};
use serde::{Deserialize, Serialize};

pub use crate::abi2::table::Phase;

impl Phase {
    /// Sections that there can be in it.
    pub const fn sections(self) -> Sections {
        use SectionId::{
            Body, BodyArguments, Carry, Hook, ResponseBody, ResponseHeaders, ResponseLine, Trailers,
        };
        const HEAD: Sections = Sections::HEAD.with(Carry);
        const WITH_BODY: Sections = HEAD.with(Body).with(BodyArguments).with(Trailers);
        match self {
            Self::Request => HEAD,
            Self::RequestBody | Self::Message => WITH_BODY,
            Self::Response => WITH_BODY.with(ResponseLine).with(ResponseHeaders).with(ResponseBody),
            Self::Hook => WITH_BODY.with(Hook),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of phases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<Phase>", into = "Vec<Phase>")]
pub struct Phases(u8);

impl Phases {
    /// Whether a phase is one of them.
    pub fn contains(self, phase: Phase) -> bool {
        self.0 & 1 << phase as u8 != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The last of them that a request meets.
    pub fn last(self) -> Option<Phase> {
        self.iter().last()
    }

    /// All of them, in order.
    pub fn iter(self) -> impl Iterator<Item = Phase> {
        Phase::ALL.into_iter().filter(move |phase| self.contains(*phase))
    }
}

impl FromIterator<Phase> for Phases {
    fn from_iter<I: IntoIterator<Item = Phase>>(phases: I) -> Self {
        Self(phases.into_iter().fold(0, |set, phase| set | 1 << phase as u8))
    }
}

impl From<Vec<Phase>> for Phases {
    fn from(phases: Vec<Phase>) -> Self {
        phases.into_iter().collect()
    }
}

impl From<Phases> for Vec<Phase> {
    fn from(phases: Phases) -> Self {
        phases.iter().collect()
    }
}

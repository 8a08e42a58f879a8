//! The moments of a request at which rules run (module ABI 2).

use std::fmt;

use portcullis_view::{SectionId, Sections};
use serde::{Deserialize, Serialize};

/// One moment of a request at which a rule may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[repr(u8)]
pub enum Phase {
    /// The head of a request.
    Request,
    /// The same request with its body.
    RequestBody,
    /// The response to it.
    Response,
    /// One message of a gRPC or WebSocket stream.
    Message,
    /// One call inside an application.
    Hook,
}

impl Phase {
    /// All phases, in the order in which a request meets them.
    pub const ALL: [Self; 5] = [Self::Request, Self::RequestBody, Self::Response, Self::Message, Self::Hook];

    /// The function that a module exports for it.
    pub fn export(self) -> &'static str {
        match self {
            Self::Request => "pc_request",
            Self::RequestBody => "pc_request_body",
            Self::Response => "pc_response",
            Self::Message => "pc_message",
            Self::Hook => "pc_hook",
        }
    }

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

    /// Its name in a describe document.
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::RequestBody => "requestBody",
            Self::Response => "response",
            Self::Message => "message",
            Self::Hook => "hook",
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

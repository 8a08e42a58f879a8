//! The values of labels. Every label is bounded by one of these, or by the rules that exist.

/// Declares an enum whose variants are the values of one label.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// All of them, in order.
            pub(super) const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The text of the label.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

label! {
    /// What the rules made of a request, from mild to strong: a request counts once, by the strongest.
    RequestVerdict {
        /// No rule had anything to say.
        Allow = "allow",
        /// A rule asked for a record.
        Log = "log",
        /// A rule asked for rate limiting.
        RateLimit = "rate_limit",
        /// A rule in mode Monitor would have blocked it.
        WouldBlock = "would_block",
        /// A rule in mode Enforce blocked it.
        Block = "block",
        /// The node could not run a rule; nothing is said about the request.
        Overload = "overload",
    }
}

label! {
    /// The verdicts of a rule.
    RuleVerdict {
        /// 0.
        Allow = "allow",
        /// 1.
        Block = "block",
        /// 2.
        Log = "log",
        /// 3.
        RateLimit = "rate_limit",
    }
}

label! {
    /// Why a rule had no verdict.
    FailureCause {
        /// The module trapped or returned no verdict.
        Error = "error",
        /// Fuel, memory or deadline ran out.
        Budget = "budget",
        /// The body is larger than the rule inspects.
        BodyTooLarge = "body_too_large",
        /// A part of the request that the rule reads could not be decoded, or not as a whole.
        Malformed = "malformed",
        /// There is no version to run.
        Unavailable = "unavailable",
        /// The node had no time for it.
        Overload = "overload",
        /// The node itself failed.
        Host = "host",
    }
}

impl FailureCause {
    /// As `onFailure` of a WasmRule names it: for answers and events, which people read beside the rule.
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Self::BodyTooLarge => "bodyTooLarge",
            other => other.as_str(),
        }
    }
}

label! {
    /// What went wrong with the upstream.
    UpstreamFailure {
        /// Its name could not be resolved.
        Resolve = "resolve",
        /// No connection.
        Connect = "connect",
        /// No TLS, or a certificate that is not trusted.
        Tls = "tls",
        /// No connection, or no answer, in time.
        Timeout = "timeout",
        /// The connection broke before the head of the answer.
        Broken = "broken",
        /// It sent what no HTTP server may send.
        BadResponse = "bad_response",
        /// The connection broke within the body of the answer.
        BodyBroken = "body_broken",
        /// It sent more than its answer announced. What was announced was delivered.
        Surplus = "surplus",
    }
}

label! {
    /// Why a request or connection was not taken on.
    Shed {
        /// Too many connections.
        Connections = "connections",
        /// Too many TLS handshakes at once.
        Handshakes = "handshakes",
        /// Too many requests.
        Requests = "requests",
        /// Too many bytes of bodies that rules read.
        Buffers = "body_buffers",
        /// Too many evaluations that wait for a thread.
        Evaluations = "evaluations",
    }
}

label! {
    /// Why a connection was closed that has to begin with a header of the PROXY protocol.
    MissingHeader {
        /// The header took too long.
        Timeout = "timeout",
        /// The connection ended before the header did: also who looks whether the port is open.
        Closed = "closed",
        /// It begins with something else.
        Malformed = "malformed",
    }
}

label! {
    /// How a TLS handshake ended.
    Handshake {
        /// With a connection.
        Full = "full",
        /// With a connection that goes on with a session from before.
        Resumed = "resumed",
        /// The client spoke no TLS that is accepted, took no certificate, or went away.
        Failed = "failed",
        /// It took too long.
        Timeout = "timeout",
        /// No certificate is for the server name.
        NoCertificate = "no_certificate",
    }
}

label! {
    /// For what an HTTP/2 connection was ended.
    Misuse {
        /// Too many streams reset by the client.
        Resets = "resets",
        /// Too many SETTINGS.
        Settings = "settings",
        /// Too many PINGs.
        Pings = "pings",
        /// Too many frames of other kinds: PRIORITY, WINDOW_UPDATE, unknown ones.
        ControlFrames = "control_frames",
        /// A head that did not come to its end in time.
        HeadTimeout = "head_timeout",
        /// Frames that the protocol does not allow, or more of them than HTTP/2's own limits do.
        Protocol = "protocol",
    }
}

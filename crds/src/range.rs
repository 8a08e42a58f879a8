//! Ranges of sizes and spans in the schema: CEL rules, whose messages say what to write. A `pattern` would answer with
//! its raw expression.

use std::fmt::Display;

use kube_core::{Rule, validate};
use schemars::Schema;
use schemars::transform::Transform;

use crate::quantity::{ByteSize, Span};

/// Bounds the field that it is attached to.
pub(crate) struct Within {
    rule: String,
    message: String,
}

/// A size from `least` to `most`; `advice` ends the message.
pub(crate) fn sizes(least: ByteSize, most: ByteSize, advice: &str) -> Within {
    Within {
        rule: format!(
            "self.matches('^[0-9]{{1,9}}(Ki|Mi)?$') && quantity(self).compareTo(quantity('{least}')) >= 0 && \
             quantity(self).compareTo(quantity('{most}')) <= 0"
        ),
        message: message("a size", least, most, "bytes, Ki or Mi", advice),
    }
}

/// A span from `least` to `most`; `advice` ends the message.
pub(crate) fn spans(least: Span, most: Span, advice: &str) -> Within {
    Within {
        // More than six digits of hours would overflow CEL's duration, which is an error without our message.
        rule: format!(
            "self.matches('^[0-9]{{1,6}}(us|ms|s|m|h)$') && duration(self) >= duration('{least}') && \
             duration(self) <= duration('{most}')"
        ),
        message: message("a duration", least, most, "us, ms, s, m or h", advice),
    }
}

fn message(what: &str, least: impl Display, most: impl Display, units: &str, advice: &str) -> String {
    format!("write {what} between {least} and {most}, as a whole number of {units}, {advice}")
}

// === impl Within ===

impl Transform for Within {
    fn transform(&mut self, schema: &mut Schema) {
        validate(schema, Rule::new(self.rule.as_str()).message(self.message.as_str()))
            .expect("a rule of two texts is plain data");
    }
}

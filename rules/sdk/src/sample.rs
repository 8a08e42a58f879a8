//! Requests for tests.

use std::fmt::Write;

use crate::{Action, Request};

/// A request to try a rule on, natively, laid out as a host does it.
///
/// ```
/// use portcullis_sdk::{Action, Request, Sample};
///
/// fn inspect(request: &Request<'_>) -> Action {
///     if request.header("user-agent").is_none() { Action::Log } else { Action::Allow }
/// }
///
/// assert_eq!(Sample::get("/").judge(inspect), Action::Log);
/// assert_eq!(Sample::get("/").header("user-agent", "Mozilla/5.0").judge(inspect), Action::Allow);
/// ```
#[derive(Clone, Debug)]
pub struct Sample<'a> {
    method: &'a str,
    uri: &'a str,
    source_ip: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    body: Option<&'a str>,
}

impl<'a> Sample<'a> {
    /// A GET over HTTP/1.1 from 203.0.113.42, an address for documentation (RFC 5737), without headers.
    #[must_use]
    pub fn get(uri: &'a str) -> Self {
        Self { method: "GET", uri, source_ip: "203.0.113.42", headers: Vec::new(), body: None }
    }

    /// A POST with this body, otherwise as [`Self::get`].
    #[must_use]
    pub fn post(uri: &'a str, body: &'a str) -> Self {
        Self { method: "POST", body: Some(body), ..Self::get(uri) }
    }

    /// Adds a header; hosts write names in lower case.
    #[must_use]
    pub fn header(mut self, name: &'a str, value: &'a str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Sets the client's address.
    #[must_use]
    pub fn source_ip(mut self, address: &'a str) -> Self {
        self.source_ip = address;
        self
    }

    /// What a host hands to `inspect_request`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut json = String::from("{\"method\":");
        quote(&mut json, self.method);
        json.push_str(",\"uri\":");
        quote(&mut json, self.uri);
        json.push_str(",\"version\":\"HTTP/1.1\",\"source_ip\":");
        quote(&mut json, self.source_ip);
        json.push_str(",\"headers\":{");
        for (index, (name, value)) in self.headers.iter().enumerate() {
            if index > 0 {
                json.push(',');
            }
            quote(&mut json, name);
            json.push(':');
            quote(&mut json, value);
        }
        json.push('}');
        if let Some(body) = self.body {
            json.push_str(",\"body\":");
            quote(&mut json, body);
        }
        json.push('}');
        json
    }

    /// The rule's answer.
    #[must_use]
    pub fn judge(&self, rule: fn(&Request<'_>) -> Action) -> Action {
        rule(&Request::parse(self.to_json().as_bytes()).expect("`to_json` writes what `parse` reads"))
    }
}

fn quote(json: &mut String, text: &str) {
    json.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                json.push('\\');
                json.push(character);
            }
            '\0'..'\u{20}' => {
                write!(json, "\\u{:04x}", u32::from(character)).expect("writing to a String cannot fail");
            }
            _ => json.push(character),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_reads_back_as_it_was_written() {
        let odd = "quote \" backslash \\ newline \n nul \0 é 😀";
        let json = Sample::post("/login?next=/", odd)
            .header("user-agent", odd)
            .header("x-empty", "")
            .source_ip("2001:db8::1")
            .to_json();
        let request = Request::parse(json.as_bytes()).expect("a sample is valid");
        assert_eq!(request.method(), "POST");
        assert_eq!(request.uri(), "/login?next=/");
        assert_eq!(request.version(), "HTTP/1.1");
        assert_eq!(request.source_ip(), "2001:db8::1");
        assert_eq!(request.header("User-Agent").as_deref(), Some(odd));
        assert_eq!(request.header("x-empty").as_deref(), Some(""));
        assert_eq!(request.body().as_deref(), Some(odd));
    }
}

//! How a registry asks for credentials: the challenge of a 401 and the token it leads to.
//!
//! CNCF distribution "Token Authentication Specification", RFC 6750 and RFC 7617.

use http_auth::{ChallengeRef, parse_challenges};
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;

/// What a 401 asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User name and password in each request.
    Basic,
    /// A token from this service.
    Bearer {
        /// URL of the token service.
        realm: String,
        /// Handed on to the token service.
        service: Option<String>,
    },
}

impl Challenge {
    /// The challenge to answer. Bearer wins over Basic where both are offered: the password then goes to the
    /// token service alone.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let mut basic = None;
        for challenges in values.map(parse_challenges) {
            for challenge in challenges.ok()? {
                if let Some(bearer) = bearer(&challenge) {
                    return Some(bearer);
                }
                if challenge.scheme.eq_ignore_ascii_case("basic") {
                    basic = Some(Self::Basic);
                }
            }
        }
        basic
    }
}

fn bearer(challenge: &ChallengeRef<'_>) -> Option<Challenge> {
    let parameter = |name: &str| {
        let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_unescaped())
    };
    if !challenge.scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    Some(Challenge::Bearer { realm: parameter("realm")?, service: parameter("service") })
}

/// The `Authorization` header for a token service's answer.
pub(crate) fn bearer_header(answer: &[u8]) -> Option<HeaderValue> {
    #[derive(Deserialize)]
    struct Token {
        token: Option<String>,
        access_token: Option<String>,
    }
    let Token { token, access_token } = serde_json::from_slice(answer).ok()?;
    let token = token.or(access_token).filter(|token| !token.is_empty())?;
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(values: &[&'static str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
        }
        Challenge::from_headers(&headers)
    }

    #[test]
    fn challenges_are_read_whatever_their_case_order_and_number() {
        let bearer =
            Some(Challenge::Bearer { realm: "https://auth.example/t".into(), service: Some("reg".into()) });
        let text = r#"Bearer realm="https://auth.example/t",service="reg",scope="repository:a:pull""#;
        assert_eq!(challenge(&[text]), bearer);
        assert_eq!(challenge(&[r#"bearer SERVICE="reg", Realm="https://auth.example/t""#]), bearer);
        assert_eq!(challenge(&[r#"Basic realm="x""#, text]), bearer);
        assert_eq!(challenge(&[r#"Basic realm="x""#]), Some(Challenge::Basic));
        assert_eq!(challenge(&[r#"Negotiate"#]), None);
        assert_eq!(challenge(&[r#"Bearer service="no realm""#]), None);
        assert_eq!(challenge(&["\"\""]), None);
        assert_eq!(challenge(&[]), None);
    }

    #[test]
    fn both_names_of_the_token_are_read_and_nonsense_is_not() {
        assert_eq!(bearer_header(br#"{"token":"a"}"#).unwrap(), "Bearer a");
        assert_eq!(bearer_header(br#"{"access_token":"b","expires_in":60}"#).unwrap(), "Bearer b");
        assert!(bearer_header(br#"{"token":"a"}"#).unwrap().is_sensitive());
        assert!(bearer_header(br#"{"token":""}"#).is_none());
        assert!(bearer_header(br#"{"token":"a\r\nHost: b"}"#).is_none());
        assert!(bearer_header(b"<html>").is_none());
    }
}

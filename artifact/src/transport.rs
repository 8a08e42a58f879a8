//! The HTTP client, and where it may go.

use std::time::Duration;

use reqwest::Url;

use crate::answerer::host_and_port;

/// Storage services are one hop away.
const MAX_REDIRECTS: usize = 5;

/// The HTTP client and what it may do; shared by all sessions, holds no credentials.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    pub(crate) client: reqwest::Client,
    pub(crate) plain_http: Vec<String>,
    pub(crate) idle_timeout: Duration,
}

impl Transport {
    pub(crate) fn new(
        plain_http: Vec<String>,
        connect_timeout: Duration,
        idle_timeout: Duration,
    ) -> Result<Self, reqwest::Error> {
        let allowed = plain_http.clone();
        let policy = reqwest::redirect::Policy::custom(move |attempt| {
            if attempt.previous().len() > MAX_REDIRECTS {
                attempt.error(format!("more than {MAX_REDIRECTS} redirects"))
            } else if !is_allowed(attempt.url(), &allowed) {
                let target = format!("{}://{}", attempt.url().scheme(), host_and_port(attempt.url()));
                attempt
                    .error(format!("it leads to {target}, which is neither https nor a plain-HTTP registry"))
            } else {
                attempt.follow()
            }
        });
        let client = reqwest::Client::builder()
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(connect_timeout)
            .read_timeout(idle_timeout)
            .redirect(policy)
            .referer(false)
            .build()?;
        Ok(Self { client, plain_http, idle_timeout })
    }
}

/// Whether a request may go there.
pub(crate) fn is_allowed(url: &Url, plain_http: &[String]) -> bool {
    match url.scheme() {
        "https" => true,
        "http" => plain_http.contains(&host_and_port(url)),
        _ => false,
    }
}

//! The requests that are evaluated.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};

use portcullis_engine::abi1;
use portcullis_engine::describe::Literals;
use portcullis_view::{Connection, Head, Sections, View};

/// A request without a body.
pub(crate) struct Request {
    pub(crate) target: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Request {
    /// What a present browser sends when one clicks on a link in a shop: about 1.1 KB.
    pub(crate) fn browser() -> Self {
        let fields = [
            ("host", "shop.example"),
            ("sec-ch-ua", "\"Chromium\";v=\"142\", \"Google Chrome\";v=\"142\", \"Not_A Brand\";v=\"99\""),
            ("sec-ch-ua-mobile", "?0"),
            ("sec-ch-ua-platform", "\"Windows\""),
            ("upgrade-insecure-requests", "1"),
            (
                "user-agent",
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
            ),
            (
                "accept",
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
            ),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-user", "?1"),
            ("sec-fetch-dest", "document"),
            ("referer", "https://shop.example/category/shoes?page=2&sort=price"),
            ("accept-encoding", "gzip, deflate, br, zstd"),
            ("accept-language", "en-GB,en;q=0.9,de;q=0.8"),
            (
                "cookie",
                "session=7f3a9c1e5b8d4026a1c7e9f3b5d80246; consent=analytics.marketing; cart=3; theme=dark",
            ),
            ("priority", "u=0, i"),
            ("x-request-id", "0d9f5c1a-7b3e-4f60-9a2d-1c8e5b7f3a46"),
        ];
        Self {
            target: "/product/4711?ref=category&color=dark-blue&size=42".into(),
            fields: fields.map(|(name, value)| (name.into(), value.into())).into(),
        }
    }

    /// As many bytes as the browser's, made of what a prefilter's automaton has to follow furthest: literals without
    /// their last byte.
    pub(crate) fn crafted(rules: &[Vec<Literals>]) -> Self {
        let mut beginnings = rules
            .iter()
            .flatten()
            .flat_map(|list| &list.literals)
            .map(|literal| &literal[..literal.len() - 1])
            // From all over the automaton, so that no cache holds what they touch.
            .step_by(7)
            .cycle();
        let mut fill = |length: usize| {
            let mut text = String::new();
            while text.len() < length {
                text.push_str(beginnings.next().expect("it has no end"));
            }
            text.truncate(length);
            text
        };
        let mut request = Self::browser();
        for (name, value) in &mut request.fields {
            if name != "host" {
                *value = fill(value.len());
            }
        }
        request.target = format!("/{}?{}={}", fill(20), fill(6), fill(20));
        request
    }

    /// Lays the request out as the proxy does.
    pub(crate) fn lay_out(&self, view: &mut View, sections: Sections) {
        let head = Head {
            method: b"GET",
            target: self.target.as_bytes(),
            version: b"HTTP/1.1",
            connection: Connection {
                source: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 42)),
                source_port: 51_000,
                scheme: "http",
                host: b"shop.example",
                route: "",
                tls_version: None,
                server_name: None,
            },
        };
        let fields = self.fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        view.head(&head, fields, sections);
    }

    /// The names and values as ABI 1 wants them.
    pub(crate) fn abi1(&self) -> abi1::RequestView<'_> {
        thread_local! {
            static FIELDS: RefCell<&'static [(&'static str, &'static [u8])]> = const { RefCell::new(&[]) };
        }
        // Made once: how a proxy holds its headers is not measured here.
        let fields = FIELDS.with(|made| {
            if made.borrow().is_empty() {
                let fields: Vec<(&'static str, &'static [u8])> = Self::browser()
                    .fields
                    .into_iter()
                    .map(|(name, value)| (&*name.leak(), value.leak().as_bytes()))
                    .collect();
                made.replace(fields.leak());
            }
            *made.borrow()
        });
        abi1::RequestView {
            method: "GET",
            uri: &self.target,
            version: "HTTP/1.1",
            source_ip: Ipv4Addr::new(203, 0, 113, 42).into(),
            headers: fields,
            body: None,
        }
    }
}

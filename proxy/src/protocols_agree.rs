//! The same request is the same to rules and to the upstream, whichever protocol it came in.

use futures::FutureExt;
use http::{Request, Version};
use portcullis_view::{SectionId, Sections};
use proptest::prelude::*;

use crate::address_ranges::AddressRanges;
use crate::body::Body;
use crate::config::ProxyLimits;
use crate::downstream::Downstream;
use crate::h1::RequestDecoder;
use crate::h2::read_head;
use crate::head::RequestHead;
use crate::inspect::{Input, Subject};
use crate::scheme::Scheme;
use crate::upstream::Upload;

/// Every section of a head but its first line, whose version differs.
const SECTIONS: [SectionId; 5] =
    [SectionId::Path, SectionId::Query, SectionId::Cookies, SectionId::Headers, SectionId::Connection];

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    by_rules: Vec<Vec<(Vec<u8>, Vec<u8>)>>,
    line: Vec<Vec<u8>>,
    by_upstream: Vec<u8>,
}

fn seen(mut head: RequestHead, downstream: &Downstream) -> Seen {
    head.make_forwarded(downstream.ip(), downstream.scheme(), &AddressRanges::default());
    let mut input = Input::default();
    input.lay_out(&Subject::new(&head, downstream), None, Sections::ALL);
    let entries = |section| -> Vec<(Vec<u8>, Vec<u8>)> {
        let section = input.view().section(section);
        let entries = section.iter().flat_map(|section| section.entries());
        entries.map(|entry| (entry.name.raw.to_vec(), entry.value.raw.to_vec())).collect()
    };
    let mut line: Vec<Vec<u8>> =
        entries(SectionId::RequestLine).into_iter().map(|(_, value)| value).collect();
    line.truncate(2);
    let mut by_upstream = Vec::new();
    let mut upload = Upload::new(&head, Body::default());
    std::future::poll_fn(|cx| upload.poll_send(&mut by_upstream, cx))
        .now_or_never()
        .expect("a vector takes all there is")
        .expect("there is no body to break off");
    Seen { by_rules: SECTIONS.map(entries).into(), line, by_upstream }
}

fn in_http_1(method: &str, target: &str, fields: &[(String, String)]) -> Option<RequestHead> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nhost: shop.example\r\n");
    fields.iter().for_each(|(name, value)| bytes.push_str(&format!("{name}: {value}\r\n")));
    bytes.push_str("\r\n");
    let mut decoder = RequestDecoder::new(ProxyLimits::default(), Scheme::Http);
    decoder.head(&mut bytes.as_bytes()).ok()?.map(|request| request.head)
}

fn in_http_2(
    method: &str,
    target: &str,
    fields: &[(String, String)],
    downstream: &Downstream,
) -> Option<RequestHead> {
    let mut request = Request::builder()
        .method(method)
        .version(Version::HTTP_2)
        .uri(format!("http://shop.example{target}"));
    for (name, value) in fields {
        if name == "cookie" {
            // As browsers split it.
            for crumb in value.split("; ") {
                request = request.header(name, crumb);
            }
        } else {
            request = request.header(name, value);
        }
    }
    let (parts, ()) = request.body(()).ok()?.into_parts();
    read_head(&parts, downstream, &ProxyLimits::default()).ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn a_request_is_the_same_in_both_protocols(
        method in prop_oneof![Just("GET"), Just("POST"), Just("TRACE"), Just("PROPFIND")],
        target in "/[a-z./%2eE~]{0,8}(\\?[a-z=&+%~;/.]{0,12})?",
        cookie in proptest::option::of("[a-z]{1,3}=[a-z~]{0,3}(; [a-z]{1,3}=[a-z~\"]{0,3}){0,3}"),
        fields in proptest::collection::btree_map(
            prop_oneof![
                Just("accept".to_owned()),
                Just("content-type".to_owned()),
                Just("content-length".to_owned()),
                Just("x_forwarded_for".to_owned()),
                Just("x-forwarded-for".to_owned()),
                Just("trailer".to_owned()),
                Just("expect".to_owned()),
                "[a-z_-]{1,6}",
            ],
            "([!-~]([ -~]{0,6}[!-~])?)?",
            0..6,
        ),
    ) {
        let mut fields: Vec<_> = fields.into_iter().collect();
        fields.extend(cookie.map(|cookie| ("cookie".to_owned(), cookie)));
        // They are refused in HTTP/2, which HTTP/1.1 cannot do.
        fields.retain(|(name, _)| !matches!(&**name, "te" | "host" | "upgrade"));
        let downstream = Downstream::plain("203.0.113.7:50000".parse().unwrap());
        let one = in_http_1(method, &target, &fields).map(|head| seen(head, &downstream));
        let other = in_http_2(method, &target, &fields, &downstream).map(|head| seen(head, &downstream));
        prop_assert_eq!(one, other);
    }
}

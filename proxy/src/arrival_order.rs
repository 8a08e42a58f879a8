//! Rules and the upstream see the field lines of a request in the order in which they arrived, and byte for byte.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Context;

use futures::FutureExt;
use portcullis_view::{SectionId, Sections};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::address_ranges::AddressRanges;
use crate::body::Body;
use crate::config::ProxyLimits;
use crate::downstream::Downstream;
use crate::h1::RequestDecoder;
use crate::head::RequestHead;
use crate::inspect::{Input, Subject};
use crate::scheme::Scheme;
use crate::upstream::Upload;

type Lines = Vec<(Vec<u8>, Vec<u8>)>;

const NAMES: [&str; 24] = [
    "Accept",
    "accept",
    "Cookie",
    "cookie",
    "X-A",
    "x-a",
    "X-B",
    "User-Agent",
    "Via",
    "Referer",
    "Connection",
    "connection",
    "Keep-Alive",
    "TE",
    "Upgrade",
    "Trailer",
    "Proxy-Connection",
    "Expect",
    "X-Forwarded-For",
    "X-Forwarded-Anything",
    "Forwarded",
    "X-Real-IP",
    "X-Listed",
    "Content-Type",
];
const OPTIONS: [&str; 6] = ["keep-alive", "x-listed", "X-B", "via", "close", "te"];

fn line(random: &mut SmallRng) -> (Vec<u8>, Vec<u8>) {
    let name = NAMES[random.random_range(0..NAMES.len())];
    let value = match name.to_ascii_lowercase().as_str() {
        "connection" => {
            let options =
                (0..random.random_range(1..4)).map(|_| OPTIONS[random.random_range(0..OPTIONS.len())]);
            options.collect::<Vec<_>>().join(", ").into_bytes()
        }
        "expect" => b"100-continue".to_vec(),
        "upgrade" => b"h2c".to_vec(),
        _ => {
            let bytes = b"abz09 ,;=\"\t%/\\\xe4\xff";
            let mut value: Vec<u8> =
                (0..random.random_range(0..12)).map(|_| bytes[random.random_range(0..bytes.len())]).collect();
            value = value.trim_ascii().to_vec();
            value
        }
    };
    (name.as_bytes().to_vec(), value)
}

/// What RFC 9110 section 7.6.1 and our own rule about addresses leave of these lines, and what we add.
fn expected(lines: &Lines) -> Lines {
    let lower = |name: &[u8]| String::from_utf8(name.to_ascii_lowercase()).unwrap();
    let listed: Vec<String> = lines
        .iter()
        .filter(|(name, _)| lower(name) == "connection")
        .flat_map(|(_, value)| value.split(|&b| b == b','))
        .map(|option| lower(option.trim_ascii()))
        .collect();
    let stripped = |name: &str| {
        let fixed = ["connection", "keep-alive", "te", "upgrade", "proxy-connection", "expect"];
        fixed.contains(&name)
            || name.starts_with("x-forwarded-")
            || ["forwarded", "x-real-ip"].contains(&name)
            || listed.iter().any(|option| option == name)
    };
    let mut left: Lines = lines.iter().filter(|(name, _)| !stripped(&lower(name))).cloned().collect();
    left.extend(
        [
            ("X-Forwarded-For", "203.0.113.7"),
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Host", "shop.example"),
        ]
        .map(|(name, value)| (name.into(), value.into())),
    );
    left
}

fn head(bytes: &[u8], split: usize) -> RequestHead {
    let mut decoder = RequestDecoder::new(ProxyLimits::default(), Scheme::Http);
    let (mut first, mut second) = bytes.split_at(split);
    let request = decoder.head(&mut first).unwrap();
    request.or_else(|| decoder.head(&mut second).unwrap()).expect("the head is whole").head
}

fn seen_by_rules(head: &RequestHead, downstream: &Downstream, input: &mut Input) -> Lines {
    let sections = Sections::from(SectionId::Headers);
    input.lay_out(&Subject::new(head, downstream), None, sections);
    let section = input.view().section(SectionId::Headers).unwrap();
    section.entries().map(|entry| (entry.name.raw.to_vec(), entry.value.raw.to_vec())).collect()
}

fn sent_to_the_upstream(head: &RequestHead) -> Lines {
    let mut upload = Upload::new(head, Body::default());
    let mut sent = pin!(Vec::new());
    let send = poll_fn(|cx: &mut Context<'_>| upload.poll_send(&mut *sent, cx));
    send.now_or_never().expect("a vector takes all there is").unwrap();
    let text = sent.strip_suffix(b"\r\n\r\n").expect("a whole head");
    let mut lines = text.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    assert_eq!(lines.next(), Some(&b"GET /a?b HTTP/1.1"[..]));
    lines
        .map(|line| {
            let colon = line.iter().position(|&byte| byte == b':').expect("a field line");
            (line[..colon].to_vec(), line[colon + 2..].to_vec())
        })
        .collect()
}

/// `PORTCULLIS_HEADS` of them; a million in `make test`.
#[test]
fn what_rules_see_and_what_is_forwarded_keep_the_order_and_the_bytes_of_arrival() {
    let heads = std::env::var("PORTCULLIS_HEADS").map_or(20_000, |heads| heads.parse().expect("a number"));
    let downstream = Downstream::plain("203.0.113.7:50000".parse().unwrap());
    let mut input = Input::default();
    for seed in 0..heads {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut lines: Lines = (0..random.random_range(0..16)).map(|_| line(&mut random)).collect();
        let at = random.random_range(0..=lines.len());
        lines.insert(at, (b"Host".to_vec(), b"shop.example".to_vec()));
        let mut bytes = b"GET /a?b HTTP/1.1\r\n".to_vec();
        for (name, value) in &lines {
            let space = [&b""[..], b" ", b" \t "][random.random_range(0..3)];
            bytes.extend_from_slice(&[name, &b":"[..], space, value, space, b"\r\n"].concat());
        }
        bytes.extend_from_slice(b"\r\n");
        let mut head = head(&bytes, random.random_range(0..bytes.len()));
        head.make_forwarded(downstream.ip(), downstream.scheme(), &AddressRanges::default());
        let expected = expected(&lines);
        let context = || format!("seed {seed}: {}", bytes.escape_ascii());
        assert_eq!(sent_to_the_upstream(&head), expected, "{}", context());
        // Rules see names in lower case: they have no case (RFC 9110 section 5.1).
        let lower: Lines =
            expected.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        assert_eq!(seen_by_rules(&head, &downstream, &mut input), lower, "{}", context());
    }
    println!("{heads} heads, 0 differences");
}

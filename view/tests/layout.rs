//! What a view holds, and what it does not.

mod support;

use std::net::IpAddr;

use portcullis_view::{Connection, Flags, Head, MAX_CARRY, MAX_ENTRIES, Reader, SectionId, Sections, View};
use support::head;

const LINES: [(&[u8], &[u8]); 3] = [(b"Host", b"example.com"), (b"X-Test", b"%41"), (b"Cookie", b"a=1; b=2")];

fn written(view: &View, sections: Sections, carry: &[u8]) -> Vec<u8> {
    // Not zeros: every byte has to be written.
    let mut out = vec![0xaa; view.len_of(sections, carry)];
    view.write(sections, carry, &mut out);
    out
}

fn numbers(bytes: &[u8]) -> Vec<u16> {
    Reader::new(bytes).expect("a view").sections().map(|section| section.number).collect()
}

fn values(bytes: &[u8], id: SectionId) -> Vec<String> {
    let section = Reader::new(bytes).expect("a view").section(id).expect("the section");
    section.entries().map(|entry| String::from_utf8_lossy(entry.value.raw).into_owned()).collect()
}

#[test]
fn a_view_holds_the_declared_sections_in_order_and_no_others() {
    let mut view = View::new();
    view.head(&head(b"/a?b=c"), LINES, Sections::ALL);
    assert_eq!(view.laid_out(), Sections::HEAD);
    assert_eq!(numbers(&written(&view, Sections::HEAD, b"")), [1, 2, 3, 4, 5, 8]);
    let two = Sections::of(&[SectionId::Connection, SectionId::Query]);
    assert_eq!(numbers(&written(&view, two, b"")), [3, 8]);
    assert_eq!(numbers(&written(&view, Sections::NONE, b"")), [0_u16; 0]);
}

#[test]
fn a_section_that_a_phase_does_not_have_is_left_out() {
    let mut view = View::new();
    let sections = Sections::HEAD | Sections::BODY;
    view.head(&head(b"/"), LINES, sections);
    assert_eq!(numbers(&written(&view, sections, b"")), [1, 2, 3, 4, 5, 8]);
    view.body(b"x", sections);
    assert_eq!(numbers(&written(&view, sections, b"")), [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn only_declared_sections_are_laid_out() {
    let mut view = View::new();
    let cookies = Sections::from(SectionId::Cookies);
    view.head(&head(b"/"), LINES, cookies);
    view.body(b"x", cookies);
    view.response_head(200, LINES, cookies);
    assert_eq!(view.laid_out(), cookies);
    assert!(view.section(SectionId::Headers).is_none());
    assert_eq!(view.section(SectionId::Cookies).map(|section| section.count()), Some(2));
}

#[test]
fn the_request_line_and_the_connection_are_lists_of_values() {
    let mut view = View::new();
    view.head(&head(b"http://example.com/a?b"), LINES, Sections::HEAD);
    let bytes = written(&view, Sections::HEAD, b"");
    assert_eq!(values(&bytes, SectionId::RequestLine), ["GET", "http://example.com/a?b", "HTTP/1.1"]);
    let connection =
        ["192.0.2.1", "40000", "https", "example.com", "shop/frontend", "TLSv1.3", "example.com"];
    assert_eq!(values(&bytes, SectionId::Connection), connection);
}

#[test]
fn a_connection_without_tls_has_empty_values_for_it() {
    let mut view = View::new();
    let connection = Connection {
        source: "::ffff:10.0.0.255".parse::<IpAddr>().expect("an address"),
        source_port: 0,
        scheme: "http",
        host: b"[2001:DB8::1]",
        route: "",
        tls_version: None,
        server_name: None,
    };
    view.head(&Head { connection, ..head(b"/") }, [], Sections::HEAD);
    let bytes = written(&view, Sections::HEAD, b"");
    let expected = ["10.0.0.255", "0", "http", "[2001:db8::1]", "", "", ""];
    assert_eq!(values(&bytes, SectionId::Connection), expected);
}

#[test]
fn a_response_and_a_hook_are_laid_out() {
    let mut view = View::new();
    view.head(&head(b"/"), LINES, Sections::HEAD);
    view.response_head(404, [(&b"Server"[..], &b"x"[..])], Sections::ALL);
    view.response_body(b"not here", Sections::ALL);
    view.trailers([(&b"Digest"[..], &b"y"[..])], Sections::ALL);
    view.hook(b"sql", b"query", [&b"select 1"[..]], Sections::ALL);
    let bytes = written(&view, Sections::ALL, b"");
    assert_eq!(values(&bytes, SectionId::ResponseLine), ["404"]);
    assert_eq!(values(&bytes, SectionId::ResponseHeaders), ["x"]);
    assert_eq!(values(&bytes, SectionId::ResponseBody), ["not here"]);
    assert_eq!(values(&bytes, SectionId::Trailers), ["y"]);
    assert_eq!(values(&bytes, SectionId::Hook), ["sql", "query", "select 1"]);
}

#[test]
fn a_carry_is_written_as_it_is_and_absent_without_one() {
    let mut view = View::new();
    view.head(&head(b"/"), LINES, Sections::NONE);
    let carry = Sections::from(SectionId::Carry);
    let bytes = written(&view, carry, b"%41");
    let section = Reader::new(&bytes).expect("a view").section(SectionId::Carry).expect("a carry");
    assert_eq!(section.entry(0).expect("an entry").value.canonical, b"%41");
    let bytes = written(&view, carry, b"");
    let section = Reader::new(&bytes).expect("a view").section(SectionId::Carry).expect("a carry");
    assert_eq!((section.flags, section.count), (Flags::ABSENT, 0));
    assert_eq!(written(&view, carry, &[0; MAX_CARRY]).len(), 16 + 16 + 52 + MAX_CARRY);
}

#[test]
fn an_empty_body_is_absent() {
    let mut view = View::new();
    view.head(&head(b"/"), LINES, Sections::ALL);
    view.body(b"", Sections::BODY);
    view.response_body(b"", Sections::ALL);
    for id in [SectionId::Body, SectionId::BodyArguments, SectionId::ResponseBody] {
        let section = view.section(id).expect("the section is laid out");
        assert_eq!((section.flags(), section.count()), (Flags::ABSENT, 0));
    }
}

#[test]
fn a_message_takes_the_place_of_the_one_before() {
    let mut view = View::new();
    view.head(&head(b"/"), LINES, Sections::HEAD);
    view.body(b"the first message", Sections::BODY);
    view.mark(Sections::BODY, Flags::TRUNCATED);
    assert!(view.flags(Sections::BODY).contains(Flags::TRUNCATED));
    view.body(b"second", Sections::BODY);
    assert!(!view.flags(Sections::BODY).contains(Flags::TRUNCATED));
    assert_eq!(values(&written(&view, Sections::BODY, b""), SectionId::Body), ["second"]);
}

#[test]
fn what_is_beyond_the_limit_of_entries_is_truncated() {
    let mut view = View::new();
    for (count, flags) in [(MAX_ENTRIES, Flags::NONE), (MAX_ENTRIES + 1, Flags::TRUNCATED)] {
        let target = format!("/?{}", "a&".repeat(count));
        let cookies = "a=1;".repeat(count);
        let mut lines = vec![(&b"cookie"[..], cookies.as_bytes())];
        lines.resize(count, (b"x", b""));
        view.head(&head(target.as_bytes()), lines.iter().copied(), Sections::HEAD);
        for id in [SectionId::Query, SectionId::Cookies, SectionId::Headers] {
            let section = view.section(id).expect("the section is laid out");
            assert_eq!((section.count(), section.flags()), (MAX_ENTRIES, flags), "{}", id.name());
        }
    }
}

#[test]
fn flags_of_entries_are_flags_of_their_section() {
    let mut view = View::new();
    view.head(&head(b"/a;b?c=d#e"), LINES, Sections::HEAD);
    assert_eq!(view.flags(Sections::from(SectionId::Path)), Flags::AMBIGUOUS);
    assert_eq!(view.flags(Sections::from(SectionId::Query)), Flags::MALFORMED);
    assert_eq!(view.flags(Sections::HEAD), Flags::AMBIGUOUS | Flags::MALFORMED);
    assert_eq!(view.flags(Sections::from(SectionId::Headers)), Flags::NONE);
}

#[test]
fn several_cookie_fields_are_clear_in_http_2() {
    let mut view = View::new();
    let lines = [(&b"cookie"[..], &b"a=1"[..]), (b"cookie", b"b=2")];
    for (version, flags) in [(&b"HTTP/1.1"[..], Flags::AMBIGUOUS), (b"HTTP/2.0", Flags::NONE)] {
        view.head(&Head { version, ..head(b"/") }, lines, Sections::HEAD);
        assert_eq!(view.flags(Sections::from(SectionId::Cookies)), flags);
    }
}

#[test]
fn several_content_encodings_are_one_list() {
    let mut view = View::new();
    let lines = [
        (&b"content-type"[..], &b"application/x-www-form-urlencoded"[..]),
        (b"content-encoding", b"identity"),
        (b"content-encoding", b"gzip"),
    ];
    view.head(&head(b"/"), lines, Sections::HEAD);
    view.body(b"a=1", Sections::BODY);
    assert!(view.flags(Sections::BODY).contains(Flags::NOT_PARSED));
}

#[test]
fn a_coding_hides_the_body_and_what_it_holds() {
    let mut view = View::new();
    for (coding, body, is_hidden) in [
        (&b"gzip"[..], &b"a=1"[..], true),
        (b"identity, zstd", b"a=1", true),
        (b"identity", b"a=1", false),
        (b"", b"a=1", false),
        (b"gzip", b"", false),
    ] {
        view.head(&head(b"/"), [(&b"Content-Encoding"[..], coding)], Sections::HEAD);
        view.body(body, Sections::BODY);
        for id in [SectionId::Body, SectionId::BodyArguments] {
            let flags = view.flags(id.into());
            assert_eq!(flags.contains(Flags::MALFORMED), is_hidden, "{} {coding:?}", id.name());
        }
    }
}

#[test]
fn views_that_are_equal_are_at_the_same_place() {
    let mut view = View::new();
    view.head(&head(b"/plain?a=b&c=%41&%64=%2541"), LINES, Sections::HEAD);
    let bytes = written(&view, Sections::HEAD, b"");
    for section in Reader::new(&bytes).expect("a view").sections() {
        for entry in section.entries() {
            for views in [entry.name, entry.value] {
                assert_eq!(views.raw == views.decoded, views.raw.as_ptr() == views.decoded.as_ptr());
                assert_eq!(
                    views.decoded == views.canonical,
                    views.decoded.as_ptr() == views.canonical.as_ptr()
                );
            }
        }
    }
}

#[test]
fn nothing_of_a_request_is_in_the_view_of_the_next() {
    let mut view = View::new();
    let marker = "MARKER".repeat(50);
    let target = format!("/{marker}/..%2f{marker}?{marker}=%4d{marker}&{marker}");
    let cookie = format!("{marker}={marker}; %4d{marker}");
    let lines = [
        (marker.as_bytes(), marker.as_bytes()),
        (b"cookie", cookie.as_bytes()),
        (b"content-type", b"application/x-www-form-urlencoded"),
        (b"content-encoding", marker.as_bytes()),
    ];
    let mut first = head(target.as_bytes());
    (first.connection.host, first.connection.route) = (marker.as_bytes(), &marker);
    view.head(&first, lines, Sections::ALL);
    view.body(target.as_bytes(), Sections::ALL);
    view.trailers(lines, Sections::ALL);
    view.response_head(200, lines, Sections::ALL);
    view.response_body(marker.as_bytes(), Sections::ALL);
    view.hook(marker.as_bytes(), marker.as_bytes(), [marker.as_bytes()], Sections::ALL);
    let full = written(&view, Sections::ALL, marker.as_bytes());
    assert!(full.len() > 10_000);

    view.head(&head(b"/b"), [], Sections::HEAD);
    assert_eq!(view.laid_out(), Sections::HEAD);
    let second = written(&view, Sections::ALL, b"");
    view.body(b"a=%41", Sections::ALL);
    view.response_head(200, [], Sections::ALL);
    let with_body = written(&view, Sections::ALL, b"");
    for bytes in [second, with_body] {
        let text = String::from_utf8_lossy(&bytes).to_uppercase();
        assert!(!text.contains("MARKER"));
        let mut fresh = View::new();
        fresh.head(&head(b"/b"), [], Sections::HEAD);
        if Reader::new(&bytes).expect("a view").section(SectionId::Body).is_some() {
            fresh.body(b"a=%41", Sections::ALL);
            fresh.response_head(200, [], Sections::ALL);
        }
        assert_eq!(bytes, written(&fresh, Sections::ALL, b""));
    }
}

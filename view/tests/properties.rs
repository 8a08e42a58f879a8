//! What holds for any bytes.

mod support;

use portcullis_view::{Flags, Reader, SectionId, Sections, View};
use proptest::prelude::*;
use support::head;

type Lines = Vec<(Vec<u8>, Vec<u8>)>;

/// Bytes at random, and bytes that mean something to a decoder.
fn hostile(length: usize) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "/", "..", ".", "%2f", "%", "%25", "41", "%u", "&", "amp;", "&#", "x", ";", "=", "?", "+", "\"",
            "$", ",", "\\", " ", "a", "://", ":", "#", "%00", "%c0%ae", "{", "[", "--", "\r\n",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..length).prop_map(|pieces| pieces.concat())
}

fn lines() -> impl Strategy<Value = Lines> {
    let name = prop_oneof![
        prop::sample::select(vec!["cookie", "Cookie", "content-type", "Content-Encoding", "host"])
            .prop_map(|name| name.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    let media = prop::sample::select(vec![
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=--",
        "application/graphql",
    ])
    .prop_map(|media| media.as_bytes().to_vec());
    prop::collection::vec((name, prop_oneof![hostile(20), media]), 0..12)
}

fn borrowed(lines: &Lines) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines.iter().map(|(name, value)| (&name[..], &value[..]))
}

fn written(view: &View, sections: Sections, carry: &[u8]) -> Vec<u8> {
    let mut out = vec![0; view.len_of(sections, carry)];
    view.write(sections, carry, &mut out);
    out
}

fn lay_out(view: &mut View, target: &[u8], lines: &Lines, body: &[u8]) {
    view.head(&head(target), borrowed(lines), Sections::ALL);
    view.body(body, Sections::ALL);
    view.trailers(borrowed(lines), Sections::ALL);
    view.response_head(200, borrowed(lines), Sections::ALL);
    view.response_body(body, Sections::ALL);
    view.hook(b"", b"", [body], Sections::ALL);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_reader_accepts_what_a_view_writes(
        target in hostile(40), lines in lines(), body in hostile(80), carry in hostile(8),
    ) {
        let mut view = View::new();
        lay_out(&mut view, &target, &lines, &body);
        let bytes = written(&view, Sections::ALL, &carry);
        let reader = Reader::new(&bytes).expect("a view");
        prop_assert_eq!(reader.sections().count(), SectionId::ALL.len());
        for id in view.laid_out().iter() {
            let (laid_out, read) = (view.section(id).expect("laid out"), reader.section(id).expect("written"));
            prop_assert_eq!(laid_out.flags(), read.flags);
            prop_assert_eq!(laid_out.count(), read.count);
            prop_assert!(laid_out.entries().eq(read.entries()));
            for entry in read.entries() {
                for views in [entry.name, entry.value] {
                    prop_assert_eq!(views.raw == views.decoded, same_place(views.raw, views.decoded));
                    prop_assert_eq!(views.decoded == views.canonical, same_place(views.decoded, views.canonical));
                }
            }
        }
    }

    #[test]
    fn a_view_is_never_longer_than_the_largest(target in hostile(40), lines in lines(), body in hostile(80)) {
        let mut view = View::new();
        lay_out(&mut view, &target, &lines, &body);
        let fields: usize = lines.iter().map(|(name, value)| name.len() + value.len()).sum();
        let request = head(&target);
        let length = 3 + 8 + target.len() + request.connection.host.len() + fields;
        for sections in SectionId::ALL.map(Sections::from).into_iter().chain([Sections::HEAD, Sections::ALL]) {
            let largest = View::largest(sections, length, body.len());
            prop_assert!(view.len_of(sections, &[0; 4096]) as u64 <= largest);
        }
    }

    #[test]
    fn a_view_does_not_depend_on_the_request_before(
        first in (hostile(40), lines(), hostile(80)), second in (hostile(40), lines(), hostile(80)),
    ) {
        let (mut used, mut fresh) = (View::new(), View::new());
        lay_out(&mut used, &first.0, &first.1, &first.2);
        lay_out(&mut used, &second.0, &second.1, &second.2);
        lay_out(&mut fresh, &second.0, &second.1, &second.2);
        prop_assert_eq!(written(&used, Sections::ALL, b""), written(&fresh, Sections::ALL, b""));
    }

    #[test]
    fn a_canonical_value_that_is_not_ambiguous_stays_as_it_is(value in hostile(40)) {
        let mut view = View::new();
        let canonical = |view: &mut View, value: &[u8]| {
            view.head(&head(b"/"), [(&b"x"[..], value)], Sections::HEAD);
            let section = view.section(SectionId::Headers).expect("laid out");
            (section.entry(0).expect("a field").value.canonical.to_vec(), section.flags())
        };
        let (once, flags) = canonical(&mut view, &value);
        if !flags.contains(Flags::AMBIGUOUS) {
            prop_assert_eq!(&canonical(&mut view, &once).0, &once);
        }
    }

    #[test]
    fn a_reader_takes_any_bytes(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let _ = Reader::new(&bytes);
        let mut view = View::new();
        view.head(&head(b"/a?b=%41"), [(&b"x"[..], &b"y"[..])], Sections::HEAD);
        let mut bytes = written(&view, Sections::HEAD, b"");
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(reader) = Reader::new(&bytes) {
            let read: usize = reader.sections().flat_map(|section| section.entries()).map(|entry| entry.value.raw.len()).sum();
            prop_assert!(read <= bytes.len() * bytes.len());
        }
    }
}

/// Texts of no bytes are everywhere.
fn same_place(one: &[u8], other: &[u8]) -> bool {
    one.as_ptr() == other.as_ptr() && one.len() == other.len()
}

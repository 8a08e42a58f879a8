//! Any body of any media type. The first line of the input is the content type, so that corpora can be written by hand.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_view::{Head, Reader, Sections, View};

const HEAD: Head<'_> = Head::from_localhost(b"POST", b"/");

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    let (content_type, body) = input.split_at(end);
    let body = body.get(1..).unwrap_or_default();
    let mut view = View::new();
    view.head(&HEAD, [(&b"content-type"[..], content_type)], Sections::NONE);
    view.body(body, Sections::BODY);
    let mut bytes = vec![0; view.len_of(Sections::BODY, &[])];
    view.write(Sections::BODY, &[], &mut bytes);
    let reader = Reader::new(&bytes).expect("a view is read as it was written");
    let read: usize = reader.sections().map(|section| section.entries().count()).sum();
    let laid_out: usize =
        view.laid_out().iter().filter_map(|id| view.section(id)).map(|section| section.count()).sum();
    assert_eq!(read, laid_out);
    assert!(bytes.len() as u64 <= View::largest(Sections::BODY, 64, body.len()));
});

//! Any head, laid out, written and read back.

#![no_main]

use std::net::IpAddr;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use portcullis_view::{Connection, Head, Reader, Sections, View};

#[derive(Arbitrary, Debug)]
struct Request<'a> {
    method: &'a [u8],
    target: &'a [u8],
    version: &'a [u8],
    field_lines: Vec<(Field<'a>, &'a [u8])>,
    source: IpAddr,
    source_port: u16,
    host: &'a [u8],
    carry: &'a [u8],
}

#[derive(Arbitrary, Debug)]
enum Field<'a> {
    Cookie,
    ContentType,
    Host,
    Other(&'a [u8]),
}

impl<'a> Field<'a> {
    fn name(&self) -> &'a [u8] {
        match self {
            Self::Cookie => b"cookie",
            Self::ContentType => b"Content-Type",
            Self::Host => b"host",
            Self::Other(name) => name,
        }
    }
}

fuzz_target!(|request: Request<'_>| {
    let head = Head {
        method: request.method,
        target: request.target,
        version: request.version,
        connection: Connection {
            source: request.source,
            source_port: request.source_port,
            scheme: "https",
            host: request.host,
            route: "namespace/name",
            tls_version: None,
            server_name: None,
        },
    };
    let lines = || request.field_lines.iter().map(|(field, value)| (field.name(), *value));
    let mut view = View::new();
    view.head(&head, lines(), Sections::ALL);
    view.trailers(lines(), Sections::ALL);
    view.response_head(200, lines(), Sections::ALL);

    let carry = &request.carry[..request.carry.len().min(portcullis_view::MAX_CARRY)];
    let mut bytes = vec![0; view.len_of(Sections::ALL, carry)];
    view.write(Sections::ALL, carry, &mut bytes);
    let reader = Reader::new(&bytes).expect("a view is read as it was written");
    for id in view.laid_out().iter() {
        let (laid_out, read) = (view.section(id).expect("laid out"), reader.section(id).expect("written"));
        assert_eq!(laid_out.flags(), read.flags);
        assert!(laid_out.entries().eq(read.entries()));
        assert!(read.entries().all(|entry| entry.value.decoded.len() <= entry.value.raw.len()));
    }

    let lengths = lines().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    let length =
        request.method.len() + request.target.len() + request.version.len() + request.host.len() + lengths;
    assert!(bytes.len() as u64 <= View::largest(Sections::ALL, length, 0));
});

//! In steady state a request is laid out and written without allocating.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use portcullis_view::{SectionId, Sections, View};
use support::head;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn serve(view: &mut View, out: &mut [u8], target: &[u8], body: &[u8]) -> usize {
    let lines: [(&[u8], &[u8]); 5] = [
        (b"Host", b"example.com"),
        (b"User-Agent", b"curl/8.5.0"),
        (b"Referer", b"https://example.com/?q=%253cscript%253e&amp;"),
        (b"Cookie", b"a=1; b=%41; $c=\"d\""),
        (b"Content-Type", b"application/x-www-form-urlencoded"),
    ];
    let mut request = head(target);
    request.connection.source = "2001:db8::1".parse().expect("an address");
    view.head(&request, lines, Sections::ALL);
    view.body(body, Sections::ALL);
    view.trailers(lines, Sections::ALL);
    view.response_head(200, lines, Sections::ALL);
    view.response_body(body, Sections::ALL);
    view.hook(b"sql", b"query", [body], Sections::ALL);
    let length = view.len_of(Sections::ALL, b"carry");
    view.write(Sections::ALL, b"carry", &mut out[..length]);
    length
}

#[test]
fn steady_state_does_not_allocate() {
    let mut view = View::new();
    let mut out = vec![0; 1 << 16];
    let target = b"/a/../%2525412e/%c0%ae;b?q=%253cscript%253e&a+b=%u003c&c=1";
    let body = b"name=value&text=%26lt%3bscript%26gt%3b";
    serve(&mut view, &mut out, target, body);
    let before = ALLOCATIONS.with(Cell::get);
    assert!(before > 0, "allocations are counted");
    for _ in 0..10 {
        let length = serve(&mut view, &mut out, target, body);
        serve(&mut view, &mut out, b"/", b"");
        assert!(length > 1000);
    }
    assert_eq!(ALLOCATIONS.with(Cell::get), before);
}

#[test]
fn bodies_of_all_formats_do_not_allocate() {
    let bodies: [(&[u8], &[u8]); 5] = [
        (b"application/x-www-form-urlencoded", b"name=value&text=%26lt%3bscript%26gt%3b"),
        (b"application/json", br#"{"a\u0062":["x\ny",{"c":{}}],"d":1.5}"#),
        (
            b"application/json; charset=utf-8",
            br#"{"query":"query($i: ID = \"\\u0041\") { user(id: $i, in: [1, {a: 2}]) { name } }"}"#,
        ),
        (b"application/graphql", b"{ user(id: \"\\u0041\", text: \"\"\"\n  block\n\"\"\") { name } }"),
        (
            b"multipart/form-data; boundary=\"b\"",
            b"--b\r\nContent-Disposition: form-data; name=\"a\\b\"; filename=x; filename*=UTF-8''%41\r\n\
              Content-Type: text/plain\r\n\r\ncontent\r\n--b--\r\n",
        ),
    ];
    let mut view = View::new();
    let mut lay_out_all = || {
        for (content_type, body) in bodies {
            view.head(&head(b"/"), [(&b"Content-Type"[..], content_type)], Sections::ALL);
            view.body(body, Sections::ALL);
            assert!(view.section(SectionId::BodyArguments).is_some_and(|arguments| arguments.count() > 1));
        }
    };
    lay_out_all();
    let before = ALLOCATIONS.with(Cell::get);
    lay_out_all();
    assert_eq!(ALLOCATIONS.with(Cell::get), before);
}

//! An application that says `Hello from the application.` to whatever reaches it; prints its address, and ends with its standard
//! input, which is also when the parent dies.

use std::io::{Read, stdin};

use portcullis_test_tools::upstream::{answer, serving};

fn main() {
    println!("{}", serving(|_| answer("200 OK", "Hello from the application.\n")));
    if let Err(error) = stdin().read_to_end(&mut Vec::new()) {
        eprintln!("standard input: {error}");
    }
}

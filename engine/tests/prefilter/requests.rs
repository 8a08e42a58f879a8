//! Requests at random, half of them attacks in some disguise.

use portcullis_view::{Head, Sections, View};

/// The head of a request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) target: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn lay_out(&self, view: &mut View, sections: Sections) {
        let head = Head::from_localhost(b"GET", self.target.as_bytes());
        let fields = self.fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        view.head(&head, fields, sections);
    }
}

/// Pieces of requests: what rules look for, and what looks like it.
const PIECES: [&str; 28] = [
    "sqlmap",
    "nikto",
    "${jndi:",
    "<script",
    "union",
    "union select",
    "' or 1",
    "/etc/passwd",
    "onerror=",
    "/admin/",
    "wp-login",
    "sqlma",
    "nikt",
    "jndi",
    "script",
    "unio",
    "selec",
    "shop",
    "Mozilla/5.0",
    "42",
    "/",
    "../",
    "=",
    "&",
    ";",
    "%",
    " ",
    "a.b-c",
];

/// Makes requests from a number: the same number, the same request.
pub(crate) struct Generator(u64);

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn request(&mut self) -> Request {
        let mut target = format!("/{}", self.text());
        if self.below(4) > 0 {
            target.push('?');
            for _ in 0..=self.below(3) {
                target.push_str(&format!("{}={}&", self.text(), self.text()));
            }
        }
        // As they come over the wire: no spaces in a target.
        target = target.replace(' ', "+");
        let fields = (0..self.index(4))
            .map(|number| {
                let name = ["user-agent", "cookie", "x-forwarded-for", "referer"][number];
                (name.to_owned(), self.text())
            })
            .collect();
        Request { target, fields }
    }

    /// A few pieces, each in a disguise.
    fn text(&mut self) -> String {
        (0..self.below(4)).map(|_| self.piece()).collect()
    }

    fn piece(&mut self) -> String {
        let mut text = PIECES[self.index(PIECES.len())].to_owned();
        if self.below(3) == 0 {
            text = text.to_uppercase();
        }
        match self.below(10) {
            0 | 1 => self.each(&text, 3, |byte| format!("%{byte:02x}")),
            2 => self.each(&text, 3, |byte| format!("%25{byte:02X}")),
            3 => self.each(&text, 3, |byte| format!("&#{byte};")),
            4 => self.each(&text, 4, |byte| format!("%u00{byte:02x}")),
            5 => self.each(&text, 4, |byte| format!("&#x{byte:x};")),
            6 => self.each(&text, 5, |byte| format!("%{:02x}%{:02x}", 0xc0 | byte >> 6, 0x80 | byte & 0x3f)),
            7 => self.each(&text, 6, |byte| format!("%2525{byte:02x}")),
            _ => text,
        }
    }

    /// Writes one byte in so many differently.
    fn each(&mut self, text: &str, in_so_many: u64, write: impl Fn(u8) -> String) -> String {
        text.bytes()
            .map(|byte| if self.below(in_so_many) == 0 { write(byte) } else { char::from(byte).to_string() })
            .collect()
    }

    fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap()
    }

    /// SplitMix64 (Steele, Lea and Flood 2014).
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % limit
    }
}

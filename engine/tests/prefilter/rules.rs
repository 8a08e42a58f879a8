//! Rules that look for a word in one view of one section, and say so.

/// One rule.
pub(crate) struct Rule {
    section: &'static str,
    id: u16,
    view: View,
    words: &'static [&'static str],
}

/// Where the words are looked for.
#[derive(Clone, Copy)]
pub(crate) enum View {
    Raw,
    Decoded,
    Canonical,
}

/// Sections and views of a head; the words are in what the generator writes.
pub(crate) const ALL: [Rule; 6] = [
    Rule { section: "headers", id: 5, view: View::Raw, words: &["sqlmap", "nikto"] },
    Rule { section: "headers", id: 5, view: View::Canonical, words: &["${jndi:", "<script"] },
    Rule { section: "query", id: 3, view: View::Raw, words: &["union"] },
    Rule { section: "query", id: 3, view: View::Decoded, words: &["union select", "<script", "' or 1"] },
    Rule { section: "query", id: 3, view: View::Canonical, words: &["/etc/passwd", "<script", "onerror="] },
    Rule { section: "path", id: 2, view: View::Canonical, words: &["/admin/", "wp-login"] },
];

impl Rule {
    /// The module as text: for each entry, each word, each offset, compare in lower case.
    pub(crate) fn wat(&self) -> String {
        let Self { section, id, words, .. } = self;
        let (name, view_offset) = match self.view {
            View::Raw => ("raw", 28),
            View::Decoded => ("decoded", 36),
            View::Canonical => ("canonical", 44),
        };
        let describe = serde_json::json!({
            "phases": ["request"], "sections": [section],
            "prefilter": [{"section": section, "view": name, "literals": words}],
        })
        .to_string()
        .replace('\\', "\\5c")
        .replace('"', "\\22");
        // Each word: its length, its bytes, in 32 bytes.
        let data: String = words
            .iter()
            .enumerate()
            .map(|(index, word)| {
                let bytes: String = word.bytes().map(|byte| format!("\\{byte:02x}")).collect();
                format!("(data (i32.const {}) \"\\{:02x}{bytes}\")", 1024 + index * 32, word.len())
            })
            .collect();
        let last = 1024 + words.len() * 32;
        format!(
            r#"(module
  (@custom "portcullis.describe" "{describe}")
  (memory (export "memory") 2)
  {data}
  (func (export "pc_buffer") (param i32) (result i32) (i32.const 65536))
  (func $lower (param $byte i32) (result i32)
    (i32.or (local.get $byte)
      (i32.shl (i32.lt_u (i32.sub (local.get $byte) (i32.const 65)) (i32.const 26)) (i32.const 5))))
  (func $at (param $text i32) (param $word i32) (param $left i32) (result i32)
    (loop $next
      (if (i32.eqz (local.get $left)) (then (return (i32.const 1))))
      (if (i32.ne (call $lower (i32.load8_u (local.get $text))) (i32.load8_u (local.get $word)))
        (then (return (i32.const 0))))
      (local.set $text (i32.add (local.get $text) (i32.const 1)))
      (local.set $word (i32.add (local.get $word) (i32.const 1)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br $next))
    unreachable)
  (func $find (param $text i32) (param $len i32) (param $word i32) (result i32) (local $end i32)
    (if (i32.lt_u (local.get $len) (i32.load8_u (local.get $word))) (then (return (i32.const 0))))
    (local.set $end (i32.add (local.get $text) (i32.sub (local.get $len) (i32.load8_u (local.get $word)))))
    (loop $next
      (if (call $at (local.get $text) (i32.add (local.get $word) (i32.const 1)) (i32.load8_u (local.get $word)))
        (then (return (i32.const 1))))
      (local.set $text (i32.add (local.get $text) (i32.const 1)))
      (br_if $next (i32.le_u (local.get $text) (local.get $end))))
    (i32.const 0))
  (func (export "pc_request") (param $view i32) (param $len i32) (result i32)
    (local $directory i32) (local $section i32) (local $entry i32) (local $count i32) (local $word i32)
    (local.set $directory (i32.add (local.get $view) (i32.const 16)))
    (if (i32.ne (i32.load16_u (local.get $directory)) (i32.const {id})) (then (unreachable)))
    (local.set $section (i32.add (local.get $view) (i32.load offset=4 (local.get $directory))))
    (local.set $count (i32.load offset=12 (local.get $directory)))
    (local.set $entry (local.get $section))
    (block $done
      (loop $entries
        (br_if $done (i32.eqz (local.get $count)))
        (local.set $word (i32.const 1024))
        (loop $words
          (if (call $find
                (i32.add (local.get $section) (i32.load offset={view_offset} (local.get $entry)))
                (i32.load offset={view_length} (local.get $entry))
                (local.get $word))
            (then (return (i32.const 1))))
          (local.set $word (i32.add (local.get $word) (i32.const 32)))
          (br_if $words (i32.lt_u (local.get $word) (i32.const {last}))))
        (local.set $entry (i32.add (local.get $entry) (i32.const 52)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $entries)))
    (i32.const 0)))"#,
            view_length = view_offset + 4,
        )
    }
}

//! Which names are blocked, and when a user agent holds one.
//!
//! What is on the list
//! - Tools that find or exploit weaknesses and send their name unless told otherwise.
//! - Names that have no other use: `nmap` is only Nmap; `hydra`, `vega` and `zap` are also other people's products and
//!   are not listed, `httpx` is a Python library as well as a scanner and is listed by its author's name.
//!
//! What is not
//! - Search engines, link previews, feed readers, monitoring and Kubernetes probes.
//! - Surveys of the Internet that can be told to stay away (Censys, Shodan, InternetMeasurement).
//! - `curl`, `Wget`, `Go-http-client`, `okhttp`, `PostmanRuntime`: people, health checks and applications use them. A
//!   route where only browsers belong needs a rule of its own.

/// Attack tools whose name begins with these two letters or digits, in lower case.
fn attack_tools(start: [u8; 2]) -> &'static [&'static str] {
    match &start {
        b"ac" => &["acunetix"],
        b"ar" => &["arachni"],
        b"bb" => &["bbscan"],
        b"bs" => &["bsqlbf"],
        b"co" => &["commix"],
        b"di" => &["dirbuster", "dirsearch"],
        b"dr" => &["droopescan"],
        b"fe" => &["feroxbuster"],
        b"ff" => &["ffuf"],
        b"fi" => &["fimap"],
        // What ffuf sends.
        b"fu" => &["fuzz faster u fool"],
        b"go" => &["gobuster"],
        b"gr" => &["grendel-scan"],
        b"ha" => &["havij"],
        b"jo" => &["jorgee"],
        // LeakIX.
        b"l9" => &["l9explore", "l9tcpid"],
        // RedTail.
        b"li" => &["libredtail-http"],
        b"ma" => &["masscan"],
        b"mo" => &["morfeus"],
        b"mu" => &["muieblackcat"],
        b"ne" => &["nessus", "netsparker"],
        b"ni" => &["nikto"],
        b"nm" => &["nmap"],
        b"nu" => &["nuclei"],
        b"op" => &["openvas"],
        // httpx, katana and others: "httpx - Open-source project (github.com/projectdiscovery/httpx)".
        b"pr" => &["projectdiscovery"],
        b"sk" => &["skipfish"],
        b"sq" => &["sqlmap", "sqlninja"],
        b"ts" => &["tsunamisecurityscanner"],
        b"w3" => &["w3af"],
        b"we" => &["webinspect"],
        b"wf" => &["wfuzz"],
        b"wh" => &["whatweb"],
        b"wp" => &["wpscan"],
        b"zg" => &["zgrab"],
        b"zm" => &["zmeu"],
        _ => &[],
    }
}

/// HTTP libraries under their own name: nobody's product, often somebody's script. Blocked from 2.0.0 on.
fn scripted_clients(start: [u8; 2]) -> &'static [&'static str] {
    if !cfg!(feature = "scripted-clients") {
        return &[];
    }
    match &start {
        b"ai" => &["aiohttp"],
        b"li" => &["libwww-perl"],
        b"me" => &["mechanize"],
        b"py" => &["python-requests", "python-urllib"],
        b"sc" => &["scrapy"],
        _ => &[],
    }
}

/// Whether a byte is an ASCII letter or digit; a table takes half the instructions of comparing.
fn in_word(byte: u8) -> bool {
    const TABLE: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0_u8;
        while byte < 128 {
            table[byte as usize] = byte.is_ascii_alphanumeric();
            byte += 1;
        }
        table
    };
    TABLE[usize::from(byte)]
}

/// Letters in lower case; digits, spaces and hyphens as they are. Of all other bytes only control characters become
/// one of those, and no header holds them.
fn in_lower_case(byte: u8) -> u8 {
    byte | 0x20
}

/// Length of the shortest word that a blocked name begins with.
const SHORTEST_WORD: usize = 4;

/// The blocked name that stands in `agent` as a word of its own, ASCII letters in either case.
///
/// A word begins and ends where a letter or digit meets something else, so `zgrab/0.x` and `(Nikto/2.1.6)` are found
/// and `Denmap` is not. Two letters decide which names to compare with, so a longer list costs next to nothing, and
/// the dearest user agent stays far below what `fuelPerByte` pays for.
pub(crate) fn named_in(agent: &str) -> Option<&'static str> {
    let mut rest = agent.as_bytes();
    loop {
        let word = rest.iter().take_while(|&&byte| in_word(byte)).count();
        if word >= SHORTEST_WORD
            && let Some(name) = name_at(rest, word)
        {
            return Some(name);
        }
        // Behind the word and what ended it.
        rest = rest.get(word + 1..)?;
    }
}

/// The blocked name that `text` begins with, whose first word has `word` bytes.
fn name_at(text: &[u8], word: usize) -> Option<&'static str> {
    let start = text.first_chunk::<2>()?.map(in_lower_case);
    let listed =
        |names: &'static [&'static str]| names.iter().find(|name| begins_with(text, word, name)).copied();
    listed(attack_tools(start)).or_else(|| listed(scripted_clients(start)))
}

/// Whether `text` begins with `name` and the word ends with it. Most names part at the length of the first word.
fn begins_with(text: &[u8], word: usize, name: &str) -> bool {
    let name = name.as_bytes();
    let is_same_length = name.len() >= word && !name.get(word).is_some_and(|&byte| in_word(byte));
    is_same_length
        && text.split_at_checked(name.len()).is_some_and(|(start, rest)| {
            start.iter().zip(name).all(|(&byte, &expected)| in_lower_case(byte) == expected)
                && !rest.first().is_some_and(|&byte| in_word(byte))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_listed_where_it_is_looked_up() {
        let mut listed = 0;
        for start in (0..=u16::MAX).map(u16::to_be_bytes) {
            for name in attack_tools(start).iter().chain(scripted_clients(start)) {
                assert!(name.as_bytes().starts_with(&start), "{name}");
                assert!(!name.contains(|letter: char| letter.is_uppercase()), "{name}");
                assert_eq!(named_in(name), Some(*name));
                let first_word = name.find(|letter: char| !letter.is_alphanumeric()).unwrap_or(name.len());
                assert!(first_word >= SHORTEST_WORD, "{name}");
                listed += 1;
            }
        }
        assert!(listed >= 40, "{listed}");
    }

    #[test]
    fn a_name_counts_as_a_word_only() {
        for agent in
            ["nmap", "NMAP", "x nmap", "nmap/7", "(nmap)", "_nmap_", "nmap.org", "a-nmap-b", "é nmap"]
        {
            assert_eq!(named_in(agent), Some("nmap"), "{agent}");
        }
        for agent in ["", " ", "nma", "nmapx", "xnmap", "1nmap", "nmap2", "n map"] {
            assert_eq!(named_in(agent), None, "{agent}");
        }
    }

    #[test]
    fn a_name_of_several_words_counts_in_full_only() {
        assert_eq!(named_in("Fuzz Faster U Fool v2.1.0"), Some("fuzz faster u fool"));
        assert_eq!(named_in("Fuzz Faster U Fooled"), None);
        assert_eq!(named_in("Grendel-Scan/1.0"), Some("grendel-scan"));
    }
}

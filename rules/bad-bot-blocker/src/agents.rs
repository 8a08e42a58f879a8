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

/// Attack tools whose name begins with this letter or digit, in lower case.
fn attack_tools(initial: u8) -> &'static [&'static str] {
    match initial {
        b'a' => &["acunetix", "arachni"],
        b'b' => &["bbscan", "bsqlbf"],
        b'c' => &["commix"],
        b'd' => &["dirbuster", "dirsearch", "droopescan"],
        // ffuf sends its name in full.
        b'f' => &["feroxbuster", "ffuf", "fimap", "fuzz faster u fool"],
        b'g' => &["gobuster", "grendel-scan"],
        b'h' => &["havij"],
        b'j' => &["jorgee"],
        // LeakIX; RedTail.
        b'l' => &["l9explore", "l9tcpid", "libredtail-http"],
        b'm' => &["masscan", "morfeus", "muieblackcat"],
        b'n' => &["nessus", "netsparker", "nikto", "nmap", "nuclei"],
        b'o' => &["openvas"],
        // httpx, katana and others: "httpx - Open-source project (github.com/projectdiscovery/httpx)".
        b'p' => &["projectdiscovery"],
        b's' => &["skipfish", "sqlmap", "sqlninja"],
        b't' => &["tsunamisecurityscanner"],
        b'w' => &["w3af", "webinspect", "wfuzz", "whatweb", "wpscan"],
        b'z' => &["zgrab", "zmeu"],
        _ => &[],
    }
}

/// HTTP libraries under their own name: nobody's product, often somebody's script. Blocked from 2.0.0 on.
fn scripted_clients(initial: u8) -> &'static [&'static str] {
    if !cfg!(feature = "scripted-clients") {
        return &[];
    }
    match initial {
        b'a' => &["aiohttp"],
        b'l' => &["libwww-perl", "lwp"],
        b'm' => &["mechanize"],
        b'p' => &["python-requests", "python-urllib"],
        b's' => &["scrapy"],
        _ => &[],
    }
}

/// The blocked name that stands in `agent` as a word of its own, ASCII letters in either case.
///
/// A word begins and ends where a letter or digit meets something else, so `zgrab/0.x` and `(Nikto/2.1.6)` are found
/// and `Denmap` is not. Names are looked up by their first letter, so a longer list costs next to nothing.
pub(crate) fn named_in(agent: &str) -> Option<&'static str> {
    let mut in_word = false;
    let mut rest = agent.as_bytes();
    while let [byte, next @ ..] = rest {
        let begins = !in_word;
        in_word = byte.is_ascii_alphanumeric();
        if begins && in_word {
            let initial = byte.to_ascii_lowercase();
            let mut names = attack_tools(initial).iter().chain(scripted_clients(initial));
            if let Some(name) = names.find(|name| begins_with(rest, name)) {
                return Some(name);
            }
        }
        rest = next;
    }
    None
}

/// Whether `text` begins with `name` and the word ends with it.
fn begins_with(text: &[u8], name: &str) -> bool {
    text.split_at_checked(name.len()).is_some_and(|(word, rest)| {
        word.eq_ignore_ascii_case(name.as_bytes()) && !rest.first().is_some_and(u8::is_ascii_alphanumeric)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_listed_where_it_is_looked_up() {
        for initial in 0..=u8::MAX {
            for name in attack_tools(initial).iter().chain(scripted_clients(initial)) {
                assert_eq!(name.as_bytes().first(), Some(&initial));
                assert!(!name.contains(|letter: char| letter.is_uppercase()), "{name}");
                assert_eq!(named_in(name), Some(*name));
            }
        }
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

//! Which names are blocked.
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

/// Attack tools, in lower case.
const ATTACK_TOOLS: [&str; 40] = [
    "acunetix",
    "arachni",
    "bbscan",
    "bsqlbf",
    "commix",
    "dirbuster",
    "dirsearch",
    "droopescan",
    "feroxbuster",
    "ffuf",
    "fimap",
    FFUF_AGENT,
    "gobuster",
    "grendel-scan",
    "havij",
    "jorgee",
    // LeakIX.
    "l9explore",
    "l9tcpid",
    // RedTail.
    "libredtail-http",
    "masscan",
    "morfeus",
    "muieblackcat",
    "nessus",
    "netsparker",
    "nikto",
    "nmap",
    "nuclei",
    "openvas",
    // httpx, katana and others: "httpx - Open-source project (github.com/projectdiscovery/httpx)".
    "projectdiscovery",
    "skipfish",
    "sqlmap",
    "sqlninja",
    "tsunamisecurityscanner",
    "w3af",
    "webinspect",
    "wfuzz",
    "whatweb",
    "wpscan",
    "zgrab",
    "zmeu",
];

/// What ffuf sends.
const FFUF_AGENT: &str = "fuzz faster u fool";

/// HTTP libraries under their own name: nobody's product, often somebody's script. Blocked from 2.0.0 on.
const SCRIPTED_CLIENTS: [&str; if cfg!(feature = "scripted-clients") { 6 } else { 0 }] = {
    #[cfg(feature = "scripted-clients")]
    let names = ["aiohttp", "libwww-perl", "mechanize", "python-requests", "python-urllib", "scrapy"];
    #[cfg(not(feature = "scripted-clients"))]
    let names = [];
    names
};

/// All names that are blocked.
pub(crate) const NAMES: [&str; ATTACK_TOOLS.len() + SCRIPTED_CLIENTS.len()] = {
    let mut names = [""; ATTACK_TOOLS.len() + SCRIPTED_CLIENTS.len()];
    let (tools, libraries) = names.split_at_mut(ATTACK_TOOLS.len());
    tools.copy_from_slice(&ATTACK_TOOLS);
    libraries.copy_from_slice(&SCRIPTED_CLIENTS);
    names
};

/// What a name belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    AttackTool,
    ScriptedClient,
}

/// What the name at an index of [`NAMES`] belongs to.
pub(crate) fn kind(index: usize) -> Kind {
    if index < ATTACK_TOOLS.len() { Kind::AttackTool } else { Kind::ScriptedClient }
}

/// What an alert calls the name at an index of [`NAMES`]: letters, digits and hyphens.
pub(crate) fn id(index: usize) -> &'static str {
    match NAMES[index] {
        FFUF_AGENT => "ffuf",
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_lower_case_and_in_order() {
        for list in [&ATTACK_TOOLS[..], &SCRIPTED_CLIENTS[..]] {
            assert!(list.is_sorted());
        }
        assert!(NAMES.iter().all(|name| !name.contains(char::is_uppercase)));
    }
}

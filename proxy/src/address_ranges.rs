//! Ranges of IP addresses: whose word about a client counts.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

/// Ranges in one list at most: each request may be held against all of them.
const RANGES: usize = 256;

/// Ranges of IP addresses, as a list of CIDR ranges separated by commas. An address without a length is a range of its own.
/// The empty list holds no address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRanges(Vec<IpNet>);

/// A text that is no list of ranges.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AddressRangesError {
    /// One of its elements.
    #[error("expected a range of addresses such as 10.0.0.0/8 or fd00::/8, found {found:?}: {reason}")]
    Range {
        /// The element.
        found: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Too many.
    #[error("expected at most {RANGES} ranges of addresses, found {0}; join neighbours into larger ones")]
    TooMany(usize),
}

impl AddressRanges {
    /// Whether no address is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address is in one of the ranges. An IPv4 address mapped into IPv6 is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|range| range.contains(&address))
    }
}

impl FromStr for AddressRanges {
    type Err = AddressRangesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let ranges = text.split(',').map(|range| read(range.trim())).collect::<Result<Vec<_>, _>>()?;
        if ranges.len() > RANGES {
            return Err(AddressRangesError::TooMany(ranges.len()));
        }
        Ok(Self(ranges))
    }
}

fn read(text: &str) -> Result<IpNet, AddressRangesError> {
    let error = |reason: String| AddressRangesError::Range { found: text.to_owned(), reason };
    let range = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| error("it is no CIDR range".into()))?,
    };
    // Whoever writes 10.0.0.1/8 may mean one address, and would trust sixteen million.
    if range.addr() != range.network() {
        return Err(error(format!("write {}, or the address without a length", range.trunc())));
    }
    match range {
        IpNet::V6(mapped) if mapped.addr().to_ipv4_mapped().is_some() => {
            Err(error("write it as a range of IPv4".into()))
        }
        _ => Ok(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(text: &str) -> AddressRanges {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_in_the_ranges_that_hold_it() {
        let listed = ranges("10.0.0.0/8, 192.0.2.7,fd00::/8,2001:db8::1");
        for (address, is_in) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("fd12::1", true),
            ("2001:db8::1", true),
            ("2001:db8::2", false),
            ("::ffff:10.0.0.1", true),
            ("::ffff:11.0.0.1", false),
        ] {
            assert_eq!(listed.contains(address.parse().unwrap()), is_in, "{address}");
        }
    }

    #[test]
    fn an_empty_list_holds_nobody() {
        for empty in ["", " "] {
            assert!(ranges(empty).is_empty());
            assert!(!ranges(empty).contains([127, 0, 0, 1].into()));
        }
        assert!(ranges("0.0.0.0/0").contains([127, 0, 0, 1].into()));
        assert!(!ranges("0.0.0.0/0").contains("::1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_range_is_refused_with_the_reason() {
        for (text, reason) in [
            ("10.0.0.0/33", "it is no CIDR range"),
            ("10.0.0.0/8,", "it is no CIDR range"),
            ("lb.example", "it is no CIDR range"),
            ("10.0.0.0/8;fd00::/8", "it is no CIDR range"),
            ("10.0.0.1/8", "write 10.0.0.0/8, or the address without a length"),
            ("::ffff:10.0.0.0/104", "write it as a range of IPv4"),
        ] {
            let error = text.parse::<AddressRanges>().unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("such as 10.0.0.0/8"), "{error}");
        }
        let many = vec!["10.0.0.1"; RANGES + 1].join(",");
        assert_eq!(many.parse::<AddressRanges>(), Err(AddressRangesError::TooMany(RANGES + 1)));
    }
}

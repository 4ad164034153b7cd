//! A range of ports, as kube-apiserver's --service-node-port-range is written.

use std::{fmt, str::FromStr};

/// From the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The first, at least 1.
    pub first: u16,
    /// The last, not below the first.
    pub last: u16,
}

impl PortRange {
    /// Whether a port is in it.
    #[must_use]
    pub const fn has(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "use FIRST-LAST, for example 30000-32767".to_owned();
        let (first, last) = text.split_once('-').ok_or_else(wrong)?;
        let port = |text: &str| text.trim().parse().map_err(|_| wrong());
        let (first, last) = (port(first)?, port(last)?);
        if first == 0 || last < first {
            return Err(wrong());
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_a_first_and_a_last() {
        let range: PortRange = "30000-32767".parse().unwrap();
        assert_eq!((range.first, range.last), (30000, 32767));
        assert_eq!(range.to_string(), "30000-32767");
        assert!(range.has(30000) && range.has(32767) && !range.has(29999) && !range.has(32768));
        for wrong in ["", "1", "2-1", "0-5", "1-65536", "a-b"] {
            assert!(wrong.parse::<PortRange>().is_err(), "{wrong}");
        }
    }
}

//! Where a client finds the numbers: any set of four places.

use std::str::FromStr;

use crate::stream::Places;

/// The request header by which a client may narrow what the operator allows.
pub const NARROW_HEADER: &str = "x-fastwrap-enrich";
/// The response header that carries the block.
pub const METRICS_HEADER: &str = "x-performance-metrics";
/// W3C Server Timing.
pub const SERVER_TIMING_HEADER: &str = "server-timing";

/// A set of places.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Enrich {
    /// In the JSON body.
    pub places: Places,
    /// In the header `X-Performance-Metrics`, where the answer is known before its headers leave.
    pub header: bool,
    /// In the header `Server-Timing`, likewise.
    pub server_timing: bool,
}

impl FromStr for Enrich {
    type Err = String;

    /// Reads `body,usage,header,server-timing`, any of them, or `none`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut enrich = Self::default();
        for word in text.split(',').map(str::trim) {
            match word {
                "body" => enrich.places.body = true,
                "usage" => enrich.places.usage = true,
                "header" => enrich.header = true,
                "server-timing" => enrich.server_timing = true,
                "none" | "" => {}
                other => {
                    return Err(format!(
                        "unknown place {other:?}: use any of body, usage, header, server-timing, or none"
                    ));
                }
            }
        }
        Ok(enrich)
    }
}

impl Enrich {
    /// Whether there is any place.
    #[must_use]
    pub fn any(self) -> bool {
        self.places.any() || self.header || self.server_timing
    }

    /// What both allow.
    #[must_use]
    pub fn narrowed(self, wanted: Self) -> Self {
        Self {
            places: Places {
                body: self.places.body && wanted.places.body,
                usage: self.places.usage && wanted.places.usage,
            },
            header: self.header && wanted.header,
            server_timing: self.server_timing && wanted.server_timing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_read_and_only_narrowed() {
        let all: Enrich = "body, usage,header,server-timing".parse().unwrap();
        assert!(all.places.body && all.places.usage && all.header && all.server_timing);
        let body: Enrich = "body".parse().unwrap();
        assert_eq!(all.narrowed(body), body);
        assert_eq!(body.narrowed(all), body);
        assert!(!body.narrowed("none".parse().unwrap()).any());
        assert!("trailer".parse::<Enrich>().unwrap_err().contains("server-timing"));
    }
}

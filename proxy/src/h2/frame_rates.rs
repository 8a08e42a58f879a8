//! How many frames of the kinds that cost us something and a client nothing it may send, where the `h2` crate has no bound of its
//! own: it has for DATA without data, CONTINUATION, and streams that are reset before they were accepted.

use std::time::Duration;

use super::frame_meter::Frame;
use crate::metrics::Misuse;
use crate::token_bucket::{Rate, TokenBucket};

/// A stream that is opened and reset costs a request (CVE-2023-44487). A browser that leaves a page resets all it has open.
const RESETS: Rate = Rate { burst: 200, every: Duration::from_millis(20) };
/// Clients send one, and a second one perhaps.
const SETTINGS: Rate = Rate { burst: 50, every: Duration::from_secs(1) };
const PINGS: Rate = Rate { burst: 500, every: Duration::from_millis(20) };
const OTHERS: Rate = Rate { burst: 2_000, every: Duration::from_millis(2) };

/// For each HEADERS or DATA frame that we send a client may send so many PING and WINDOW_UPDATE frames beyond those rates: it
/// measures the way that answers take (gRPC does so for each), and gives back the window that they used.
const CREDIT: u32 = 4;
const MOST_CREDIT: u32 = 10_000;

/// What a client has left of each.
#[derive(Debug, Default)]
pub(super) struct FrameRates {
    resets: TokenBucket,
    settings: TokenBucket,
    pings: TokenBucket,
    others: TokenBucket,
    credit: u32,
}

impl FrameRates {
    /// A frame that the client has sent, at this time since a moment that is the same at each call. What it has too much of.
    pub(super) fn received(&mut self, frame: Frame, now: impl Fn() -> Duration) -> Option<Misuse> {
        let (bucket, rate, misuse) = match frame {
            Frame::Data | Frame::Head => return None,
            Frame::Ping | Frame::Other if self.credit > 0 => {
                self.credit -= 1;
                return None;
            }
            Frame::Reset => (&self.resets, RESETS, Misuse::Resets),
            Frame::Settings => (&self.settings, SETTINGS, Misuse::Settings),
            Frame::Ping => (&self.pings, PINGS, Misuse::Pings),
            Frame::Other => (&self.others, OTHERS, Misuse::ControlFrames),
        };
        (!bucket.take(rate, now())).then_some(misuse)
    }

    /// A frame that we have sent.
    pub(super) fn sent(&mut self, frame: Frame) {
        if matches!(frame, Frame::Data | Frame::Head) {
            self.credit = (self.credit + CREDIT).min(MOST_CREDIT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flood(rates: &mut FrameRates, frame: Frame, count: usize, now: Duration) -> Option<Misuse> {
        (0..count).find_map(|_| rates.received(frame, || now))
    }

    #[test]
    fn floods_are_found_and_what_clients_do_is_not() {
        let minute = Duration::from_secs(60);
        for (frame, fair, flooded, misuse) in [
            (Frame::Reset, 200, 300, Misuse::Resets),
            (Frame::Settings, 50, 100, Misuse::Settings),
            (Frame::Ping, 500, 1_000, Misuse::Pings),
            (Frame::Other, 2_000, 3_000, Misuse::ControlFrames),
        ] {
            let mut rates = FrameRates::default();
            assert_eq!(flood(&mut rates, frame, fair, minute), None, "{frame:?}");
            assert_eq!(flood(&mut rates, frame, flooded, 3 * minute), Some(misuse));
        }
        assert_eq!(flood(&mut FrameRates::default(), Frame::Data, 1_000_000, minute), None);
    }

    #[test]
    fn answers_are_credit_for_pings_and_window_updates() {
        let mut rates = FrameRates::default();
        for _ in 0..100_000 {
            rates.sent(Frame::Data);
            assert_eq!(rates.received(Frame::Ping, || Duration::ZERO), None);
            assert_eq!(rates.received(Frame::Other, || Duration::ZERO), None);
            // Answers to PINGs are none.
            rates.sent(Frame::Ping);
        }
        let mut rates = FrameRates::default();
        assert!((0..10_000).any(|_| {
            rates.sent(Frame::Ping);
            rates.received(Frame::Ping, || Duration::ZERO).is_some()
        }));
    }
}

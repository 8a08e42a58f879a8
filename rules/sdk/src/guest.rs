//! What the exports of [`rule!`](crate::rule) do. Not part of the API.

use std::sync::{Mutex, PoisonError};

use crate::{Action, MALFORMED, Request};

/// Where the host writes the request. Kept from call to call, so that a host that keeps an instance does not
/// make it grow.
static INPUT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Room for `len` bytes, valid until the next call. Traps when there is none: every address would be a wrong one.
#[must_use]
pub fn alloc(len: usize) -> *mut u8 {
    let mut input = INPUT.lock().unwrap_or_else(PoisonError::into_inner);
    if input.try_reserve_exact(len).is_err() {
        std::process::abort();
    }
    input.as_mut_ptr()
}

/// Judges one request, laid out as JSON by the host.
#[must_use]
pub fn inspect(json: &[u8], rule: fn(&Request<'_>) -> Action) -> i32 {
    match Request::parse(json) {
        Ok(request) => rule(&request) as i32,
        Err(_) => MALFORMED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_the_numbers_of_the_abi() {
        let json = crate::Sample::get("/").to_json();
        for (action, number) in
            [(Action::Allow, 0), (Action::Block, 1), (Action::Log, 2), (Action::RateLimit, 3)]
        {
            assert_eq!(action as i32, number);
        }
        assert_eq!(inspect(json.as_bytes(), |_| Action::RateLimit), 3);
    }

    #[test]
    fn what_is_no_request_gets_no_verdict() {
        assert_eq!(inspect(b"", |_| Action::Allow), MALFORMED);
        assert_eq!(inspect(b"{}", |_| Action::Allow), MALFORMED);
        assert_eq!(inspect(b"\xff", |_| Action::Allow), MALFORMED);
    }

    #[test]
    fn the_same_room_serves_one_request_after_another() {
        let first = alloc(64 << 10);
        assert_eq!(alloc(1), first);
        assert_eq!(alloc(64 << 10), first);
    }
}

//! The limits that clients are told in SETTINGS, and those of the `h2` crate.

use h2::server::Builder;

use crate::config::{Http2Limits, ProxyLimits};

/// Streams that the client may have open and reset before we have accepted them (CVE-2023-44487).
const PENDING_RESETS: usize = 20;
/// Streams that we may reset because of what the client does wrong, within a connection (CVE-2025-8671).
const LOCAL_RESETS: usize = 100;
/// Streams that we have reset and still remember.
const REMEMBERED_RESETS: usize = 50;
/// Smallest and default frame size (RFC 9113 section 6.5.2).
const FRAME: u32 = 16 * 1024;

pub(super) fn builder(limits: &ProxyLimits) -> Builder {
    let Http2Limits { streams, stream_window, connection_window, send_buffer } = limits.http2;
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(streams)
        .initial_window_size(stream_window)
        .initial_connection_window_size(connection_window)
        .max_frame_size(FRAME)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(send_buffer)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(LOCAL_RESETS))
        .max_concurrent_reset_streams(REMEMBERED_RESETS);
    builder
}

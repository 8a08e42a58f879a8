// wasm-rules/bad-bot-blocker/src/lib.rs
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

#[derive(Deserialize)]
struct RequestContext {
    method: String,
    uri: String,
    headers: HashMap<String, String>,
}

#[no_mangle]
pub extern "C" fn inspect_request(ptr: *const u8, len: usize) -> i32 {
    let data = unsafe { std::slice::from_raw_parts(ptr, len) };
    let ctx: RequestContext = serde_json::from_slice(data).unwrap();
    
    // Block admin paths
    if ctx.uri.starts_with("/admin") {
        return 1; // Block
    }
    
    // Block known bad bots
    if let Some(ua) = ctx.headers.get("user-agent") {
        let bad_bots = ["BadBot", "SQLMap", "Nmap", "Nikto"];
        if bad_bots.iter().any(|bot| ua.contains(bot)) {
            return 1; // Block
        }
    }
    
    0 // Allow
}

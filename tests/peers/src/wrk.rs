//! Load from wrk, a client that is not ours: it does not check answers.

use crate::client::Target;
use std::process::Command;

/// Requests a second to one server, of so many clients, in one second.
pub fn rate(target: &Target, input: &[u8], clients: usize) -> Result<f64, String> {
    let text = |e: std::io::Error| format!("wrk: {e}");
    let folder = tempfile::tempdir().map_err(text)?;
    let script = folder.path().join("post.lua");
    // `errors` counts connections, and answers that are not 2xx or 3xx.
    let lua = format!(
        "wrk.method = 'POST'\n\
         wrk.headers['Content-Type'] = 'application/octet-stream'\n\
         wrk.body = '{}'\n\
         function done(s, latency, requests)\n\
         local e = s.errors\n\
         io.write(string.format('peers %d %d %d\\n', s.requests, s.duration,\n\
         e.connect + e.read + e.write + e.status + e.timeout))\n\
         end\n",
        // Letters, a hyphen, spaces.
        String::from_utf8_lossy(input)
    );
    std::fs::write(&script, lua).map_err(text)?;
    let out = Command::new("wrk")
        .args(["-t", "1", "-d", "1s", "-c", &clients.to_string(), "-s"])
        .arg(&script)
        .arg(format!("http://{}{}", target.address, target.path))
        .output()
        .map_err(text)?;
    let said = String::from_utf8_lossy(&out.stdout);
    let found = said.lines().find_map(|l| l.strip_prefix("peers "));
    let numbers: Vec<f64> = found
        .unwrap_or_default()
        .split(' ')
        .filter_map(|n| n.parse().ok())
        .collect();
    match numbers[..] {
        [requests, us, 0.0] if requests > 0.0 => Ok(requests / us * 1e6),
        [requests, _, errors] => Err(format!("wrk: {errors} of {requests} requests failed")),
        _ => Err(format!("wrk: {}", String::from_utf8_lossy(&out.stderr))),
    }
}

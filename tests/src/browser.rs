//! A real browser judges the SVG: headless Chromium loads it, runs its script, and the document
//! that results is read.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::program::{Ended, Program};

/// The document after loading and running its scripts.
#[track_caller]
pub fn dom(chromium: &Path, scratch: &Path, page: &Path) -> String {
    run(chromium, scratch, page, &["--dump-dom"]).stdout
}

/// Draws the page into a PNG of this size.
#[track_caller]
pub fn screenshot(chromium: &Path, scratch: &Path, page: &Path, size: (u32, u32), png: &Path) {
    let shot = format!("--screenshot={}", png.display());
    let window = format!("--window-size={},{}", size.0, size.1);
    run(
        chromium,
        scratch,
        page,
        &[&shot, &window, "--hide-scrollbars"],
    );
    assert!(png.is_file(), "no screenshot of {}", page.display());
}

#[track_caller]
fn run(chromium: &Path, scratch: &Path, page: &Path, options: &[&str]) -> Ended {
    let ended = Program::start(
        Command::new(chromium)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
            ])
            .args([
                "--no-first-run",
                "--disable-dev-shm-usage",
                "--virtual-time-budget=2000",
            ])
            .arg(format!(
                "--user-data-dir={}",
                scratch.join("chromium").display()
            ))
            .args(options)
            .arg(format!("file://{}", page.display()))
            // Its caches go into the scratch folder too, not into the caller's home.
            .env("HOME", scratch)
            .current_dir(scratch),
    )
    .finish_within(Duration::from_secs(90));
    assert_eq!(ended.code(), Some(0), "chromium: {ended:?}");
    ended
}

/// The texts of all `<title>` elements (a frame's own is `name (N bytes, P%)`), unescaped.
pub fn titles(dom: &str) -> Vec<String> {
    dom.split("<title>")
        .skip(1)
        .filter_map(|rest| rest.split("</title>").next())
        .map(|text| {
            text.replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&quot;", "\"")
                .replace("&amp;", "&")
        })
        .collect()
}

//! Where a picture goes: the terminal, a file that was named, or one beside the recording that is
//! opened in a viewer.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::args::{PictureBackend, PlotArgs};
use super::super::print;
use crate::error::{Error, Exit, Result};
use crate::output;
use crate::plot::{self, Colours, Scene, Theme};
use crate::sink::escape;

/// Where a picture goes.
pub enum Target {
    /// Letters on stdout.
    Terminal,
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
        /// What is written.
        format: Picture,
        /// Replace a file that exists.
        force: bool,
        /// Open it afterwards.
        view: bool,
        /// It has a name of our choice, which the user must be told.
        unnamed: bool,
    },
}

/// Formats of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picture {
    Svg,
    Png,
}

impl Picture {
    /// By the extension of a name.
    fn of(path: &Path) -> Result<Picture> {
        let extension = path.extension().map(OsStr::to_ascii_lowercase);
        match extension.as_deref().and_then(OsStr::to_str) {
            Some("svg") => Ok(Picture::Svg),
            Some("png") => Ok(Picture::Png),
            _ => Err(Error::failed(
                format!("cannot draw {}", path.display()),
                "the end of the name says the format, and it is one of: .svg, .png",
                format!("-o {}", escape::shell(&path.with_extension("svg"))),
            )
            .with_exit(Exit::Usage)),
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Picture::Svg => "svg",
            Picture::Png => "png",
        }
    }
}

impl Target {
    /// What the arguments ask for, of these recordings.
    pub fn of(args: &PlotArgs, files: &[PathBuf]) -> Result<Target> {
        if args.terminal {
            return Ok(Target::Terminal);
        }
        if let Some(path) = &args.output {
            return Ok(Target::File {
                format: Picture::of(path)?,
                path: path.clone(),
                force: args.force,
                view: false,
                unnamed: false,
            });
        }
        let format = match args.backend {
            Some(PictureBackend::Agg) => Picture::Png,
            Some(PictureBackend::Svg | PictureBackend::Viewer) | None => Picture::Svg,
        };
        Ok(Target::File {
            path: beside(files.first(), args.flame, format),
            format,
            // The name is ours, and so was the picture that has it.
            force: true,
            view: match args.backend {
                Some(PictureBackend::Agg | PictureBackend::Svg) => false,
                Some(PictureBackend::Viewer) => true,
                None => has_display(),
            },
            unnamed: true,
        })
    }

    /// Writes the picture, and says or shows where it is.
    pub fn write(&self, scene: &Scene, dark: bool) -> Result<()> {
        let Target::File {
            path,
            format,
            force,
            view,
            unnamed,
        } = self
        else {
            return Ok(());
        };
        let bytes = match (format, dark) {
            (Picture::Svg, false) => plot::svg(scene, Colours::Auto).into_bytes(),
            (Picture::Svg, true) => plot::svg(scene, Colours::Fixed(Theme::Dark)).into_bytes(),
            (Picture::Png, dark) => png(scene, if dark { Theme::Dark } else { Theme::Light })?,
        };
        output::write_file(path, *force, |out| out.write_all(&bytes))?;
        if *unnamed {
            print(&format!("{}\n", path.display()))?;
        } else {
            eprintln!("written: {}", path.display());
        }
        if *view {
            open_viewer(path);
        }
        Ok(())
    }
}

fn png(scene: &Scene, theme: Theme) -> Result<Vec<u8>> {
    const TOLD: usize = 8;
    let missing = plot::missing_letters(scene);
    if !missing.is_empty() {
        let told: String = missing.iter().take(TOLD).collect();
        let more = if missing.len() > TOLD { "…" } else { "" };
        // The picture is there: this is no failure.
        eprintln!(
            "warning: the letters of a PNG are Latin, Greek and Cyrillic, and boxes stand for {told}{more} \
             (an SVG shows them: -o NAME.svg)"
        );
    }
    plot::png(scene, theme).map_err(|error| {
        Error::failed(
            "cannot draw the PNG",
            error,
            "draw a part (--window), or write an SVG: -o NAME.svg",
        )
    })
}

/// `BASE-plot.svg` beside `BASE.dat`.
fn beside(recording: Option<&PathBuf>, flame: bool, format: Picture) -> PathBuf {
    let recording = recording.cloned().unwrap_or_default();
    let extension = recording.extension().and_then(OsStr::to_str);
    let base = match extension {
        Some("dat" | "memprof") => recording.with_extension(""),
        _ => recording,
    };
    let mut name = OsString::from(base);
    name.push(if flame { "-flame." } else { "-plot." });
    name.push(format.extension());
    name.into()
}

fn has_display() -> bool {
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    // A browser does not start as root, and root's session is not the screen of who typed sudo.
    let sudo = rustix::process::geteuid().is_root() && set("SUDO_UID");
    (set("DISPLAY") || set("WAYLAND_DISPLAY")) && !sudo
}

/// Opens the user's own program for such files, and does not wait for its end.
fn open_viewer(path: &Path) {
    // A name that begins with a dash would be an option.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let viewer = Command::new("xdg-open")
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C in this terminal is not meant for it.
        .process_group(0)
        .spawn();
    if let Err(error) = viewer {
        // The picture is there: this is no failure.
        eprintln!("warning: no viewer: xdg-open: {error} (apt-get install xdg-utils)");
    }
}

//! Pictures of the profile made by hand, byte for byte.
//!
//! After a wanted change: `BLESS=1 cargo test -p memprof-user --test golden_plot`, then look at
//! the pictures and read the difference.

mod support;

use memprof_user::model::Profile;
use memprof_user::plot::{self, Colours, Data, PlotOptions, Range, Terminal, Theme};
use memprof_user::recording::Recording;

fn golden(name: &str, actual: &str) {
    support::golden::golden("golden_plot", name, actual);
}

fn data(profile: &Profile) -> Data {
    Data::new(&Recording::from(profile), "gunicorn.memprof").unwrap()
}

fn svg(recordings: &[Data], options: &PlotOptions) -> String {
    plot::svg(&plot::picture(recordings, options), Colours::Auto)
}

#[test]
fn pictures_are_golden() {
    let data = [data(&support::gunicorn())];
    let curves = PlotOptions {
        slope: true,
        ..PlotOptions::default()
    };
    golden("gunicorn-plot.svg", &svg(&data, &curves));
    let flame = PlotOptions {
        flame: true,
        ..PlotOptions::default()
    };
    golden("gunicorn-flame.svg", &svg(&data, &flame));
}

#[test]
fn the_terminals_picture_is_golden() {
    let data = [data(&support::gunicorn())];
    let terminal = Terminal {
        columns: 72,
        rows: Some(24),
        colour: false,
    };
    let text = plot::text(&data, &PlotOptions::default(), &terminal);
    assert!(!text.contains('\x1b'));
    golden("gunicorn-plot.txt", &text);
    let colour = Terminal {
        colour: true,
        ..terminal
    };
    let coloured = plot::text(&data, &PlotOptions::default(), &colour);
    let mut plain = String::new();
    for part in coloured.split('\x1b') {
        let rest = part.split_once('m').filter(|_| part.starts_with('['));
        plain.push_str(rest.map_or(part, |(_, rest)| rest));
    }
    // Colours change nothing but colours; blanks before a sequence stay.
    let trimmed: Vec<&str> = plain.lines().map(str::trim_end).collect();
    assert_eq!(trimmed, text.lines().collect::<Vec<_>>());
}

#[test]
fn a_png_has_the_pictures_size_and_its_colours() {
    let data = [data(&support::gunicorn())];
    let scene = plot::picture(&data, &PlotOptions::default());
    for (theme, background) in [(Theme::Light, [255, 255, 255]), (Theme::Dark, [20, 23, 28])] {
        let png = plot::png(&scene, theme).unwrap();
        let pixels = tiny_skia::Pixmap::decode_png(&png).unwrap();
        assert_eq!(f64::from(pixels.width()), scene.width * 2.0);
        assert_eq!(f64::from(pixels.height()), scene.height * 2.0);
        let corner = pixels.pixel(0, 0).unwrap();
        assert_eq!([corner.red(), corner.green(), corner.blue()], background);
        // The curve of everything is the only thing in this colour that is wider than a letter.
        let foreground = match theme {
            Theme::Light => [0x1c, 0x21, 0x28],
            Theme::Dark => [0xe8, 0xeb, 0xef],
        };
        let drawn = pixels.pixels().iter();
        let drawn = drawn.filter(|p| [p.red(), p.green(), p.blue()] == foreground);
        assert!(drawn.count() > 2000, "no curve in {theme:?}");
    }
}

#[test]
fn a_picture_stays_small_whatever_is_recorded() {
    let mut profile = support::gunicorn();
    let first = profile.samples[0];
    profile.samples = (0..100_000)
        .map(|i| memprof_user::model::Sample {
            epoch_s: first.epoch_s + f64::from(i) / 10.0,
            bytes: 1 << (20 + i % 9),
            ..first
        })
        .collect();
    let mark = profile.marks[0].clone();
    profile.marks = (0..60_000)
        .map(|i| {
            let mut mark = mark.clone();
            mark.process = 0;
            mark.function = format!("app.f{}", i % 300);
            mark.begin_epoch_s = first.epoch_s + f64::from(i) / 10.0;
            mark.end_epoch_s = mark.begin_epoch_s + 0.05;
            mark.rss_begin = 1 << 20;
            mark.rss_end = (1 << 20) + u64::from(i) * 4096;
            mark.level = i % 3;
            mark
        })
        .collect();
    let data = [data(&profile)];
    for flame in [false, true] {
        let options = PlotOptions {
            flame,
            ..PlotOptions::default()
        };
        let svg = svg(&data, &options);
        assert!(svg.len() < 1 << 20, "flame {flame}: {} bytes", svg.len());
    }
}

#[test]
fn numbers_that_no_machine_has_are_no_danger() {
    let dat = "CMDLINE x\nMEM 1e300 1e300\nMEM 0 -1e300\nMEM 1 1\nCHLD 7 1e-300 1\n\
               FUNC f 0 -1e300 1e300 1e300 4294967295\nFUNC g 1 1 1 1 0\n";
    let recording = memprof_user::recording::read_dat(dat.as_bytes())
        .unwrap()
        .unwrap();
    let data = [Data::new(&recording, "a.dat").unwrap()];
    for flame in [false, true] {
        let options = PlotOptions {
            flame,
            slope: true,
            ..PlotOptions::default()
        };
        let svg = svg(&data, &options);
        assert!(!svg.contains("NaN") && !svg.contains("\"inf"), "{svg}");
        plot::png(&plot::picture(&data, &options), Theme::Dark).unwrap();
    }
    let terminal = Terminal {
        columns: 0,
        rows: Some(0),
        colour: true,
    };
    assert!(!plot::text(&data, &PlotOptions::default(), &terminal).is_empty());
}

#[test]
fn a_picture_is_made_of_any_single_sample_and_any_window() {
    let mut profile = support::gunicorn();
    profile.samples.truncate(1);
    profile.marks.clear();
    let single = data(&profile);
    let mut wide = data(&support::gunicorn());
    let window = Range {
        begin: -1e6,
        end: 1e6,
    };
    wide.cut(window);
    for (data, window) in [(single, None), (wide, Some(window))] {
        let options = PlotOptions {
            window,
            slope: true,
            ..PlotOptions::default()
        };
        let svg = svg(&[data], &options);
        assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{svg}");
    }
}

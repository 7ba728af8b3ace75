//! Where `plot` shows a picture: on a terminal, in the desktop's viewer, or by its path.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use memprof_tests::looker::{Looker, growing};
use memprof_tests::picture::Pixels;
use memprof_tests::process::{PATIENCE, wait_until};
use memprof_tests::program::Program;

#[test]
fn a_terminal_gets_letters_as_wide_as_it_is_and_a_pipe_no_colours() {
    let Some(looker) = Looker::open() else { return };
    looker.write("a.dat", &growing());
    for columns in [48, 100] {
        let mut command = looker.command(&["a.dat", "--terminal"]);
        let ended = Program::start(command.env("COLUMNS", columns.to_string())).finish();
        let shown = ended.expect_code(0).stdout;
        let widths = shown.lines().map(|line| line.chars().count());
        assert!(widths.clone().all(|width| width <= columns), "{shown}");
        assert!(widths.max().unwrap() > columns - 12, "{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown}");
        assert!(shown.contains("100.0 MiB → 110.0 MiB"), "{shown}");
        // A straight line upwards: the highest dots are on the right, the lowest on the left.
        let dots = |c: char| ('\u{2801}'..='\u{28ff}').contains(&c);
        let rows: Vec<&str> = shown.lines().filter(|l| l.contains(['│', '┤'])).collect();
        let places: Vec<usize> = rows
            .iter()
            .filter_map(|row| row.chars().position(dots))
            .collect();
        assert!(
            places.is_sorted_by(|a, b| a >= b) && places.len() > 5,
            "{shown}"
        );
    }
    let mut command = looker.command(&["a.dat", "--terminal", "--flame"]);
    let shown = Program::start(command.env("COLUMNS", "80"))
        .finish()
        .expect_code(0)
        .stdout;
    // Ten seconds are 68 columns, and the call began after two and took four.
    let grow = shown.lines().find(|line| line.contains("[grow +4.0 MiB─"));
    let grow = grow.unwrap_or_else(|| panic!("no call: {shown}"));
    let (begin, end) = (grow.find('[').unwrap(), grow.trim_end().chars().count() - 1);
    assert_eq!((begin, end), (11 + 13, 11 + 40), "{shown}");
    // A long role gives way to its pid.
    let role = format!("# ROLE MEM 77 {}\n", "gunicorn: worker ".repeat(8));
    looker.write("long.dat", &(growing() + &role));
    let mut command = looker.command(&["long.dat", "--terminal", "--flame"]);
    let shown = Program::start(command.env("COLUMNS", "60"))
        .finish()
        .expect_code(0)
        .stdout;
    let band = shown.lines().find(|line| line.ends_with("(77) · 1 call"));
    assert!(
        band.is_some_and(|band| band.chars().count() == 60),
        "{shown}"
    );
    // script(1) gives it a terminal.
    let shell = format!("'{}' plot a.dat --terminal", looker.binary().display());
    let mut script = Command::new("script");
    script
        .args(["-qec", &shell, "/dev/null"])
        .current_dir(looker.dir());
    let shown = Program::start(script.env("TERM", "xterm").env_remove("NO_COLOR")).finish();
    assert!(
        shown.stdout.contains("\u{1b}[1m") && shown.stdout.contains('⣀'),
        "{shown:?}"
    );
}

#[test]
fn without_a_name_the_picture_is_shown_or_its_path_is_told() {
    let Some(looker) = Looker::open() else { return };
    looker.write("a.dat", &growing());
    let told = looker.plot(&["a.dat"]).expect_code(0);
    assert_eq!(told.stdout, "a-plot.svg\n");
    // Its own name: drawn again without a question.
    looker.plot(&["a.dat", "--flame"]).expect_code(0);
    looker.plot(&["a.dat", "--flame"]).expect_code(0);
    assert!(looker.read("a-flame.svg").contains(">grow  +4.0 MiB<"));
    looker.plot(&["a.dat", "--backend", "Agg"]).expect_code(0);
    assert_eq!(Pixels::read(&looker.file("a-plot.png")).width, 2520);

    // With a display: what the desktop has for such a file is given an absolute path.
    let seen = looker.file("seen");
    let viewer = looker.file("xdg-open");
    looker.write(
        "xdg-open",
        &format!(
            "#!/bin/sh\necho \"$1\" > '{}.part'\nmv '{0}.part' '{0}'\n",
            seen.display()
        ),
    );
    std::fs::set_permissions(&viewer, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!(
        "{}:{}",
        looker.dir().display(),
        std::env::var("PATH").unwrap()
    );
    for (args, display, opened) in [
        (&["a.dat"][..], true, true),
        (&["a.dat"], false, false),
        (&["a.dat", "--backend", "svg"], true, false),
        (&["a.dat", "--backend", "TkAgg"], false, true),
        (&["a.dat", "-o", "named.svg", "--force"], true, false),
    ] {
        let _ = std::fs::remove_file(&seen);
        let mut command = looker.command(args);
        command.env("PATH", &path);
        if display {
            command.env("DISPLAY", ":77");
        }
        Program::start(&mut command).finish().expect_code(0);
        if opened {
            let absolute = wait_until("the viewer", PATIENCE, || {
                std::fs::read_to_string(&seen).ok()
            });
            assert!(Path::new(absolute.trim()).is_absolute(), "{absolute}");
            assert!(absolute.trim().ends_with("/a-plot.svg"), "{absolute}");
        } else {
            assert!(!seen.exists(), "{args:?} opened a viewer");
        }
    }
    // A desktop without xdg-open: the picture is there all the same.
    let empty = looker.file("empty");
    std::fs::create_dir(&empty).unwrap();
    let mut command = looker.command(&["a.dat"]);
    let ended = Program::start(command.env("DISPLAY", ":77").env("PATH", &empty)).finish();
    let ended = ended.expect_code(0);
    assert!(ended.stderr.contains("no viewer"), "{ended:?}");
}

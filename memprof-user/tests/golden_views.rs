//! Every view of the profile made by hand, byte for byte.
//!
//! After a wanted change: `BLESS=1 cargo test -p memprof-user --test golden_views`, then read the
//! difference.

mod support;

use memprof_user::model::{Mark, Profile, Sample};
use memprof_user::recording::read_dat;
use memprof_user::report::{self, ReportOptions};
use memprof_user::sink::folded::{FoldedOptions, folded};
use memprof_user::sink::{DatOptions, FlamegraphOptions, Format, Metric, SinkOptions, View};
use support::{MIB, net, written};

fn golden(name: &str, actual: &str) {
    support::golden::golden("golden_views", name, actual);
}

#[test]
fn every_format_has_its_golden_file() {
    let profile = support::gunicorn();
    for format in Format::ALL {
        let name = format!("gunicorn.{}", format.extension());
        let text = written(format, &profile, &SinkOptions::default());
        match format {
            // inferno's script and style are its own affair: the frames are ours.
            Format::Flamegraph => golden(&format!("{name}.titles"), &titles(&text)),
            Format::Dat | Format::Folded => golden(&name, &text),
        }
    }
}

/// What a flame graph says, line by line.
fn titles(svg: &str) -> String {
    let mut lines = String::new();
    for part in svg.split("<title>").skip(1) {
        lines.push_str(part.split("</title>").next().unwrap());
        lines.push('\n');
    }
    lines
}

#[test]
fn reports_are_golden() {
    let profile = support::gunicorn();
    let options = ReportOptions::default();
    golden("gunicorn.txt", &report::text(&profile, &options));
    golden("gunicorn.table.txt", &report::table(&profile));
    let json = serde_json::to_string_pretty(&report::json(&profile, &options)).unwrap();
    golden("gunicorn.json", &format!("{json}\n"));
}

#[test]
fn views_are_golden() {
    let profile = support::gunicorn();
    let mut text = String::new();
    for view in View::ALL {
        let function = true;
        let merge_processes = true;
        let options = FoldedOptions {
            merge_processes,
            function,
        };
        for (stack, bytes) in folded(&profile, view, options) {
            text.push_str(&format!("{view}: {stack} {bytes}\n"));
        }
    }
    golden("gunicorn.views.folded", &text);
}

#[test]
fn the_dat_follows_its_options() {
    let profile = support::gunicorn();
    let dat = |dat| {
        written(
            Format::Dat,
            &profile,
            &SinkOptions {
                dat,
                ..Default::default()
            },
        )
    };
    let tree = dat(DatOptions {
        include_children: true,
        multiprocess: false,
        metric: Metric::Rss,
    });
    assert!(!tree.contains("\nCHLD"), "{tree}");
    // 31 + 60 + 30 MiB and three times 512 bytes.
    assert!(
        tree.contains("\nMEM 121.001465 1700000001.0000\n"),
        "{tree}"
    );
    // The main process's own values are not of the tree's series. It lives to the end, where only a
    // worker has a sample: 31 + 57 MiB.
    let arbiter = "FUNC gunicorn.arbiter.run 55.0010 1700000000.0000 119.5012";
    assert!(tree.contains(arbiter), "{tree}");
    let uss = dat(DatOptions {
        metric: Metric::Uss,
        ..DatOptions::default()
    });
    assert!(uss.contains("FUNC gunicorn.arbiter.run 30.0005 "), "{uss}");
}

/// Of a very long run, each process has kept samples of other moments.
#[test]
fn the_total_of_the_tree_has_everybody_who_lives() {
    let mut profile = support::gunicorn();
    let (begin, end) = (
        profile.started_epoch_s,
        profile.started_epoch_s + profile.duration_s,
    );
    let sample = |process, epoch_s, mib| Sample {
        process,
        epoch_s,
        bytes: mib * MIB,
        main: process == 0,
    };
    profile.samples = vec![
        sample(0, begin, 30),
        sample(1, begin + 0.25, 10),
        // It ends before the run, and nobody knows when.
        sample(2, begin + 0.75, 5),
        sample(0, begin + 1.0, 40),
        sample(1, begin + 1.25, 20),
        sample(1, end - 0.25, 25),
    ];
    profile.marks.clear();
    let dat = DatOptions {
        include_children: true,
        multiprocess: false,
        metric: Metric::Rss,
    };
    let options = SinkOptions {
        dat,
        ..Default::default()
    };
    let dat = written(Format::Dat, &profile, &options);
    let lines = dat.lines().filter_map(|line| line.strip_prefix("MEM "));
    let values = lines.filter_map(|line| line.split('.').next());
    let values: Vec<&str> = values.collect();
    assert_eq!(values, ["30", "40", "45", "50", "60", "65"], "{dat}");
}

/// mprof's `plot -s` dies of a series that has nothing but the file's first moment.
#[test]
fn a_series_has_more_than_the_first_moment() {
    let mut profile = support::gunicorn();
    profile.samples.truncate(2);
    for include_children in [false, true] {
        let dat = DatOptions {
            include_children,
            ..DatOptions::default()
        };
        let options = SinkOptions {
            dat,
            ..Default::default()
        };
        profile.marks.clear();
        let text = written(Format::Dat, &profile, &options);
        let read = read_dat(text.as_bytes()).unwrap().unwrap();
        assert_eq!(read.series().count(), 2, "{text}");
        for series in read.series() {
            let (first, last) = (&series.points[0], series.points.last().unwrap());
            assert!(first.epoch_s < last.epoch_s, "{text}");
            assert_eq!(first.bytes, last.bytes, "{text}");
        }
    }
}

#[test]
fn a_run_too_short_to_sample_has_its_two_ends() {
    let mut profile = support::gunicorn();
    profile.samples.clear();
    profile.marks.clear();
    profile.command = "a\nFUNC b\t".to_owned();
    let dat = written(Format::Dat, &profile, &SinkOptions::default());
    let expected = "CMDLINE a?FUNC b\n\
        # SERIES metric=rss include_children=no\n\
        # ROLE MEM 100 gunicorn: master [service:app]\n\
        MEM 30.000000 1700000000.0000\n\
        MEM 31.000000 1700000002.5000\n\
        # LOSS events_lost=0 stacks_truncated=3 stacks_failed=0 unknown_threads=1 late_flushes=2\n";
    assert_eq!(dat, expected);
}

#[test]
fn a_command_with_dollars_is_no_formula() {
    let mut profile = support::gunicorn();
    for (command, line) in [
        ("echo $HOME", "CMDLINE echo $HOME\n"),
        ("sh -c 'a $b $c'", "CMDLINE sh -c 'a \\$b \\$c'\n"),
        ("  ", "CMDLINE ?\n"),
    ] {
        profile.command = command.to_owned();
        let dat = written(Format::Dat, &profile, &SinkOptions::default());
        assert!(dat.starts_with(line), "{dat}");
    }
}

/// Of a .dat, the lines of functions, and those that are comments.
fn func_lines(profile: &Profile) -> [Vec<String>; 2] {
    let dat = written(Format::Dat, profile, &SinkOptions::default());
    ["FUNC ", "# FUNC "].map(|keyword| {
        let lines = dat.lines().filter(|line| line.starts_with(keyword));
        lines.map(str::to_owned).collect()
    })
}

#[test]
fn mprof_is_given_no_more_marks_than_it_bears() {
    let mut profile = support::gunicorn();
    let mark = profile.marks[0].clone();
    profile.marks = (0..700)
        .map(|index| Mark {
            function: format!("app.f{index}"),
            rss_end: mark.rss_begin + index * MIB,
            ..mark.clone()
        })
        .collect();
    let [shown, hidden] = func_lines(&profile);
    assert_eq!((shown.len(), hidden.len()), (500, 200));
    let least = mark.rss_begin + 200 * MIB;
    let end = format!("rss1={least} calls=1");
    assert!(shown[0].ends_with(&end), "{}", shown[0]);
}

#[test]
fn short_calls_are_joined_and_long_ones_stay() {
    let mut profile = support::gunicorn();
    let long = profile.marks[0].clone();
    let call = |begin: f64| Mark {
        function: "app.short".to_owned(),
        begin_epoch_s: long.begin_epoch_s + begin,
        end_epoch_s: long.begin_epoch_s + begin + 0.0001,
        level: 1,
        ..long.clone()
    };
    profile.marks = (0..600)
        .map(|index| call(f64::from(index) * 0.003))
        .collect();
    profile.marks.push(long);
    let [shown, hidden] = func_lines(&profile);
    assert!(hidden.is_empty(), "{hidden:?}");
    let calls_of = |name: &str| -> Vec<u32> {
        let own = shown.iter().filter(|line| line.contains(name));
        own.map(|line| line.rsplit_once("calls=").unwrap().1.parse().unwrap())
            .collect()
    };
    assert_eq!(calls_of(" gunicorn.arbiter.run "), [1]);
    let short = calls_of(" app.short ");
    assert_eq!(short.iter().sum::<u32>(), 600);
    assert!(
        short.len() > 10,
        "no more than needed are joined: {shown:?}"
    );
}

#[test]
fn an_empty_profile_has_every_view() {
    let profile = Profile::default();
    for format in Format::ALL {
        let text = written(format, &profile, &SinkOptions::default());
        assert_eq!(text.is_empty(), format == Format::Folded, "{format:?}");
    }
    let svg = written(Format::Flamegraph, &profile, &SinkOptions::default());
    assert!(svg.contains("Nothing that became resident during the trace is still resident."));
    let text = report::text(&profile, &ReportOptions::default());
    assert!(text.contains("Nothing became resident during the trace.\nnothing lost\n"));
    assert!(report::table(&profile).contains("No Python function"));
    assert_eq!(
        report::json(&profile, &ReportOptions::default())["accounting"]["rss_growth"],
        0
    );
}

#[test]
fn the_flame_graph_is_deterministic_and_can_be_turned_round() {
    let profile = support::gunicorn();
    let mut options = SinkOptions::default();
    let svg = written(Format::Flamegraph, &profile, &options);
    assert_eq!(svg, written(Format::Flamegraph, &profile, &options));
    let heading = "memprof-ebpf: net resident bytes — gunicorn -w 2 -k gevent service:app";
    assert!(svg.contains(heading));
    assert!(svg.contains("2023-11-14 22:13:20 UTC, 2.5 s · loss: 3 stacks truncated"));
    options.view = View::Gross;
    options.folded.merge_processes = true;
    options.flamegraph = FlamegraphOptions {
        reverse: true,
        title: Some("<ours> & theirs".to_owned()),
    };
    let reversed = written(Format::Flamegraph, &profile, &options);
    assert!(reversed.contains("&lt;ours&gt; &amp; theirs"));
    // Both processes' calls of build from one line: 20 and 16 MiB.
    let build = "build (/srv/app/service.py:52) (37,748,736 bytes";
    assert!(titles(&reversed).contains(build), "{}", titles(&reversed));
}

#[test]
fn a_role_that_ends_in_a_number_is_not_taken_for_a_count() {
    let mut profile = support::gunicorn();
    for process in &mut profile.processes {
        process.role = "serve.py 8000".to_owned();
    }
    let mut options = SinkOptions::default();
    options.flamegraph.reverse = true;
    options.folded.merge_processes = true;
    let titles = titles(&written(Format::Flamegraph, &profile, &options));
    assert!(titles.contains("serve.py_8000 ("), "{titles}");
    assert!(
        titles.contains(&format!("all ({} bytes", commas(net(&profile)))),
        "{titles}"
    );
}

fn commas(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[test]
fn json_says_what_the_hand_counts() {
    let json = report::json(&support::gunicorn(), &ReportOptions::default());
    let mib = |number: u64| serde_json::Value::from(number * MIB);
    let accounting = &json["accounting"];
    assert_eq!(accounting["rss_growth"], mib(79));
    assert_eq!(accounting["python"], mib(71));
    assert_eq!(accounting["unattributed"], mib(3));
    assert_eq!(accounting["attributed"], mib(76));
    assert_eq!(accounting["by_kind"]["file"], mib(3));
    assert_eq!(accounting["by_kind"]["shmem"], mib(4));
    assert_eq!(accounting["by_kind"]["anon"], mib(72));
    let worker = &json["processes"][1];
    assert_eq!(worker["gross"], mib(57));
    assert_eq!(worker["freed"], mib(25));
    assert_eq!(worker["net"], mib(32));
    assert_eq!(worker["unattributed"], mib(3));
    let named = |table: &str, name: &str, line: u64| {
        let rows = json[table].as_array().unwrap().clone();
        let mut rows = rows.into_iter();
        let found = rows.find(|row| row["function"] == name && row["line"] == line);
        found.unwrap_or_else(|| panic!("{name}:{line} in {table}"))
    };
    // Recursion: three frames of one function on the stack, counted once.
    let lambda = named("functions", "walk.<locals>.<lambda>", 7);
    assert_eq!(
        (&lambda["gross"], &lambda["self_gross"]),
        (&mib(4), &mib(4))
    );
    assert_eq!((&lambda["cow"], &lambda["self_cow"]), (&mib(2), &mib(2)));
    let build = named("functions", "build", 50);
    assert_eq!((&build["gross"], &build["net"]), (&mib(60), &mib(36)));
    let second = named("functions", "second", 40);
    assert_eq!(
        (&second["gross"], &second["self_gross"]),
        (&mib(30), &mib(6))
    );
    let line = named("lines", "build", 55);
    assert_eq!((&line["gross"], &line["net"]), (&mib(24), &mib(0)));
    // Calls that do not overlap: 20 and 1 MiB.
    let marks = json["marks"].as_array().unwrap();
    assert_eq!(marks[2]["levels"][0]["level"], 1);
    let first = marks.iter().find(|mark| mark["pid"] == 101).unwrap();
    assert_eq!(
        (&first["calls"], &first["rss_delta"]),
        (&2.into(), &mib(21))
    );
}

#[test]
fn json_has_every_key_of_the_contract() {
    let json = report::json(&support::gunicorn(), &ReportOptions::default());
    let has = |value: &serde_json::Value, keys: &str| {
        for key in keys.split_whitespace() {
            assert!(value.get(key).is_some(), "{key} in {value}");
        }
    };
    has(
        &json,
        "schema command duration_s metric processes functions lines accounting kinds files \
         before_attach shares marks loss",
    );
    has(
        &json["processes"][0],
        "pid ppid role python rss_start rss_end rss_peak gross freed net cow inherited unattributed \
         pss_start pss_end pss_peak uss_start uss_end uss_peak before_attach before_attach_end \
         before_attach_by_kind before_attach_end_by_kind",
    );
    has(
        &json["kinds"][0],
        "kind gross freed net peak cow events python",
    );
    has(&json["files"][0], "file kind gross freed net");
    has(
        &json["before_attach"],
        "start end start_by_kind end_by_kind",
    );
    has(&json["shares"][0], "pid time pss uss");
    has(
        &json["functions"][0],
        "function file line net gross freed peak cow self_net self_gross self_cow",
    );
    has(
        &json["lines"][0],
        "file line function net gross freed peak cow self_net self_gross",
    );
    has(
        &json["accounting"],
        "rss_growth python attributed unattributed by_kind",
    );
    has(&json["accounting"]["by_kind"], "anon file shmem");
    has(
        &json["marks"][0],
        "pid function calls first_begin last_end rss_delta",
    );
    has(
        &json["loss"],
        "events_lost stacks_truncated stacks_failed unknown_threads",
    );
}

#[test]
fn one_pid_can_be_looked_at_alone() {
    let profile = support::gunicorn();
    let only = report::only_pid(&profile, 102).unwrap();
    let json = report::json(&only, &ReportOptions::default());
    assert_eq!(json["processes"].as_array().unwrap().len(), 1);
    assert_eq!(json["accounting"]["rss_growth"], 20 * MIB);
    assert_eq!(json["functions"].as_array().unwrap().len(), 5);
    assert_eq!(json["marks"].as_array().unwrap().len(), 2);
    let dat = written(Format::Dat, &only, &SinkOptions::default());
    assert!(dat.contains("MEM 30.000488 1700000001.0000"), "{dat}");
    let error = report::only_pid(&profile, 7).unwrap_err();
    assert_eq!(error.cause, "it holds 100, 101, 102, 103");
}

#[test]
fn a_name_cannot_steer_the_reader() {
    let profile = support::gunicorn();
    let options = ReportOptions::default();
    for text in [
        report::text(&profile, &options),
        report::table(&profile),
        written(Format::Folded, &profile, &SinkOptions::default()),
        written(Format::Flamegraph, &profile, &SinkOptions::default()),
    ] {
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
    }
}

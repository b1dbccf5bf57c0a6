//! Builds with a toy sandbox in place of containers: what runs, how often, and what comes of it.
//!
//! A step is `RUN ["verb", …]`: `write PATH TEXT`, `show PATH TO` (what is mounted at PATH), `put PATH TEXT` (into
//! what is mounted), `env TO`, `exit CODE`, `meet` (waits for another step that meets), `wait` (until it is
//! stopped). Snapshots are real, so each test has a mount namespace of its own.

#![cfg(test)]

mod mounts;
mod site;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use builder::{BuildError, Dockerignore, FileTree, NamedContext, Owners, StepError};
use layer_store::Form;
use runtime::ExitStatus;
use rustix::fs::inotify;

use site::check;

#[test]
fn a_second_build_runs_nothing_and_gives_the_same_image() {
    check(|site| {
        let dockerfile = "FROM scratch\nRUN [\"write\", \"/a\", \"1\"]\nENV X=1\nRUN [\"write\", \"/b\", \"2\"]\n";
        let (first, ran) = site.built(dockerfile);
        assert_eq!(ran, ["write /a 1", "write /b 2"]);
        assert_eq!(site.built(dockerfile), (first, vec![]));
        assert_eq!(site.files(), ["a=1", "b=2"]);
    });
}

#[test]
fn only_steps_from_a_changed_one_on_run_again() {
    check(|site| {
        site.built("FROM scratch\nRUN [\"write\", \"/a\", \"1\"]\nRUN [\"write\", \"/b\", \"2\"]\n");
        let (_, ran) = site.built("FROM scratch\nRUN [\"write\", \"/a\", \"1\"]\nRUN [\"write\", \"/b\", \"3\"]\n");
        assert_eq!(ran, ["write /b 3"]);
        let (_, ran) = site.built("FROM scratch\nRUN [\"write\", \"/a\", \"0\"]\nRUN [\"write\", \"/b\", \"3\"]\n");
        assert_eq!(ran, ["write /a 0", "write /b 3"]);
    });
}

#[test]
fn files_of_the_context_count_by_content() {
    check(|site| {
        let dockerfile = "FROM scratch\nCOPY f /f\nRUN [\"write\", \"/b\", \"2\"]\n";
        site.write("f", "1");
        let (first, ran) = site.built(dockerfile);
        assert_eq!(ran.len(), 1);
        site.write("f", "1");
        site.write("unrelated", "x");
        std::fs::File::open(site.context("f")).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(site.built(dockerfile), (first.clone(), vec![]));
        site.write("f", "2");
        let (second, ran) = site.built(dockerfile);
        assert_eq!((second == first, ran.len()), (false, 1));
        assert_eq!(site.files(), ["b=2", "f=2"]);
    });
}

#[test]
fn a_build_that_changes_nothing_opens_no_file_of_its_context() {
    check(|site| {
        let dockerfile = "FROM scratch\nCOPY . /\nCOPY d/f /g\n";
        std::fs::create_dir(site.context("d")).unwrap();
        site.write("d/f", "1");
        site.write("h", "2");
        std::os::unix::fs::symlink("f", site.context("d/l")).unwrap();
        let (first, _) = site.built(dockerfile);
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).unwrap();
        for directory in ["", "d"] {
            inotify::add_watch(&watch, site.context(directory), inotify::WatchFlags::OPEN).unwrap();
        }
        let opened = || {
            let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(&watch, &mut buffer);
            std::iter::from_fn(|| events.next().ok().map(|event| event.events()))
                .filter(|flags| !flags.contains(inotify::ReadFlags::ISDIR))
                .count()
        };
        // files that were just written are read again, until they are old enough to be believed
        let is_still = |_: &usize| site.built(dockerfile).0 == first && opened() == 0;
        assert!((0..200).find(is_still).is_some(), "files are read again and again");
        site.write("d/f", "2");
        let (second, _) = site.built(dockerfile);
        assert_ne!(second, first);
        assert_eq!(site.files(), ["d/f=2", "d/l=2", "g=2", "h=2"]);
    });
}

#[test]
fn copies_on_nothing_or_on_copies_make_no_tree() {
    check(|site| {
        site.write("f", "f");
        site.build(
            "FROM scratch\nWORKDIR /a/b\nCOPY f .\nCOPY <<EOF /etc/passwd\nme:x:7:8::/:\nEOF\nADD --chown=me f /g\n",
        )
        .unwrap();
        let id = site.store.find("test/image").unwrap();
        let image = site.store.image(&id).unwrap();
        for diff_id in &image.config.value().rootfs.diff_ids {
            assert_eq!(site.store.layer(diff_id).unwrap().form, Form::Tar);
            assert!(!site.store.root().join("layers").join(diff_id.0.hex()).join("tree").exists());
        }
        assert_eq!(image.config.value().rootfs.diff_ids.len(), 4);
        assert_eq!(site.files(), ["a/b/f=f", "etc/passwd=me:x:7:8::/:\n", "g=f"]);
    });
}

#[test]
fn a_stage_with_the_same_output_does_not_rebuild_what_copies_from_it() {
    check(|site| {
        let dockerfile = |extra: &str| {
            format!(
                "FROM scratch AS a\nRUN [\"write\", \"/out\", \"x\"]\nRUN [\"write\", \"/{extra}\", \"y\"]\n\
                 FROM scratch\nCOPY --from=a /out /out\nRUN [\"write\", \"/last\", \"z\"]\n"
            )
        };
        let (first, ran) = site.built(&dockerfile("one"));
        assert_eq!(ran.len(), 3);
        let (second, ran) = site.built(&dockerfile("two"));
        assert_eq!((second, ran), (first, vec!["write /two y".to_owned()]));
        assert_eq!(site.files(), ["last=z", "out=x"]);
    });
}

#[test]
fn with_an_epoch_the_same_files_are_the_same_image_in_any_store() {
    let built = |seconds: u64| {
        let id = Mutex::new(String::new());
        check(|site| {
            site.write("f", "f");
            let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            std::fs::File::open(site.context("f")).unwrap().set_modified(time).unwrap();
            let dockerfile = "ARG SOURCE_DATE_EPOCH=9\nFROM scratch\nWORKDIR /a\nCOPY f .\nCOPY <<E /b/\nE\n";
            *id.lock().unwrap() = site.built(dockerfile).0;
        });
        id.into_inner().unwrap()
    };
    assert_eq!(built(1), built(2));
}

#[test]
fn a_linked_copy_is_found_again_on_other_files_below() {
    check(|site| {
        let last_layer = |text: &str, user: &str| {
            let base = format!("FROM scratch\nUSER {user}\nWORKDIR /tmp\nRUN [\"write\", \"/a\", \"{text}\"]\n");
            // a layer that is made anew has the new time
            let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(text.len() as u64);
            std::fs::File::open(site.context("f")).unwrap().set_modified(time).unwrap();
            site.build(&format!("{base}COPY --link f /tmp/x/\n")).unwrap();
            let image = site.store.image(&site.store.find("test/image").unwrap()).unwrap();
            image.config.value().rootfs.diff_ids.last().unwrap().clone()
        };
        site.write("f", "f");
        let first = last_layer("1", "1");
        assert_eq!(last_layer("11", "1"), first);
        assert_eq!(site.files(), ["a=11", "tmp/x/f=f"]);
        assert_ne!(last_layer("11", "2"), first, "the owner of the directory above its destination is in its layer");
    });
}

#[test]
fn files_of_a_named_context_count_by_content_and_its_own_ignore_file() {
    check(|site| {
        let named = site.directory.path().join("named");
        std::fs::create_dir(&named).unwrap();
        let write = |name: &str, text: &str| std::fs::write(named.join(name), text).unwrap();
        write("f", "1");
        write("left-out", "1");
        let built = |dockerfile: &str| {
            let ignore = Dockerignore::parse("left-out").unwrap();
            let tree = FileTree::open(&named, ignore, Owners::Root).unwrap();
            let contexts = [("named".to_owned(), NamedContext::Tree(Arc::new(tree)))];
            site.build_with(dockerfile, contexts.into()).map(|built| (built.id, site.ran(), site.files()))
        };
        let copied = "FROM scratch\nCOPY --from=named / /\nRUN [\"write\", \"/b\", \"2\"]\n";
        let (first, ran, files) = built(copied).unwrap();
        assert_eq!((ran.len(), files), (1, vec!["b=2".to_owned(), "f=1".to_owned()]));
        write("left-out", "2");
        let (again, ran, _) = built(copied).unwrap();
        assert_eq!((again == first, ran.len()), (true, 0));
        write("f", "2");
        let (_, ran, files) = built(copied).unwrap();
        assert_eq!((ran.len(), files), (1, vec!["b=2".to_owned(), "f=2".to_owned()]));
        let (_, _, files) = built("FROM named\nRUN [\"write\", \"/b\", \"3\"]\n").unwrap();
        assert_eq!(files, ["b=3", "f=2"]);
        let error = built("FROM scratch\nCOPY --from=named left-out /\n").unwrap_err();
        let BuildError::Solve(error) = error else { panic!("{error}") };
        assert!(matches!(error.source, StepError::SelectContext { .. }), "{:?}", error.source);
    });
}

#[test]
fn what_is_added_from_elsewhere_is_pinned_always_and_fetched_only_when_it_changed() {
    check(|site| {
        let asked = || std::mem::take(&mut *site.elsewhere.asked.lock().unwrap());
        let say = |text: &str| text.clone_into(&mut site.elsewhere.text.lock().unwrap());
        let dockerfile = "FROM scratch\nADD https://h/g l https://h/x.git /d/\nADD https://h/g /g\n";
        site.write("l", "local");
        say("1");
        let (first, _) = site.built(dockerfile);
        assert_eq!(site.files(), ["d/f=1", "d/l=local", "g=1"]);
        let both = ["fetch https://h/g", "fetch https://h/x.git", "pin https://h/g", "pin https://h/x.git"];
        let sorted = |mut asked: Vec<String>| {
            asked.sort();
            asked
        };
        assert_eq!(sorted(asked()), both, "each is asked once, though two steps want it");
        assert_eq!(site.built(dockerfile).0, first);
        assert_eq!(sorted(asked()), both[2..]);
        say("2");
        assert_ne!(site.built(dockerfile).0, first);
        assert_eq!(sorted(asked()), both);
        assert_eq!(site.files(), ["d/f=2", "d/l=local", "g=2"]);
        say("1");
        assert_eq!(site.built(dockerfile).0, first, "what was there before is found again");
    });
}

#[test]
fn a_stage_that_nothing_needs_is_not_built() {
    check(|site| {
        let (_, ran) =
            site.built("FROM scratch AS unused\nRUN [\"exit\", \"1\"]\nFROM scratch\nRUN [\"write\", \"/a\", \"1\"]\n");
        assert_eq!(ran, ["write /a 1"]);
    });
}

#[test]
fn independent_stages_run_at_the_same_time() {
    check(|site| {
        let (_, ran) = site.built(
            "FROM scratch AS a\nRUN [\"meet\", \"a\"]\nFROM scratch AS b\nRUN [\"meet\", \"b\"]\n\
             FROM scratch\nCOPY --from=a / /a/\nCOPY --from=b / /b/\n",
        );
        assert_eq!(ran, ["meet a", "meet b"]);
    });
}

#[test]
fn the_first_failure_stops_the_other_steps_and_keeps_what_was_finished() {
    check(|site| {
        let dockerfile = |end: &str| {
            format!(
                "FROM scratch AS slow\nRUN [\"wait\"]\nFROM scratch AS bad\nRUN [\"write\", \"/kept\", \"1\"]\n\
                 RUN [\"meet\"]\nRUN {end}\nFROM scratch\nCOPY --from=bad / /\nCOPY --from=slow / /\n"
            )
        };
        let error = site.build(&dockerfile("[\"exit\", \"7\"]")).unwrap_err();
        let BuildError::Solve(error) = error else { panic!("{error}") };
        assert_eq!((error.label.as_str(), error.line), ("[bad 4/4] RUN [\"exit\", \"7\"]", Some(6)));
        let StepError::Exit { status, output, .. } = &error.source else { panic!("{error:?}") };
        assert_eq!((*status, output.as_slice()), (ExitStatus::Code(7), &b"about to fail\n"[..]));
        assert!(site.store.find("test/image").is_err());
        site.ran();
        let ended = site.build("FROM scratch\nRUN [\"write\", \"/kept\", \"1\"]\n");
        assert!(ended.is_ok());
        assert_eq!(site.ran(), [""; 0]);
    });
}

#[test]
fn a_work_directory_that_is_there_makes_no_layer() {
    check(|site| {
        let dockerfile = "FROM scratch\nWORKDIR /a/b\nWORKDIR /a\nRUN [\"write\", \"/a/f\", \"1\"]\n";
        for _ in 0..2 {
            let built = site.build(dockerfile).unwrap();
            let image = site.store.image(&built.id).unwrap();
            let config = image.config.value();
            let empty: Vec<bool> = config.history.iter().map(|entry| entry.empty_layer).collect();
            assert_eq!((config.rootfs.diff_ids.len(), empty), (2, vec![false, true, false]));
        }
    });
}

#[test]
fn what_is_missing_in_the_context_is_named() {
    check(|site| {
        site.write("present", "");
        let error = site.build("FROM scratch\nCOPY presnt /\n").unwrap_err();
        let BuildError::Solve(error) = error else { panic!("{error}") };
        let StepError::SelectContext { source, .. } = &error.source else { panic!("{error:?}") };
        assert_eq!(source.to_string(), "`presnt` is not there");
    });
}

#[test]
fn archives_are_unpacked_by_add_and_copied_by_copy() {
    check(|site| {
        let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        let mut header = tar::Header::new_ustar();
        header.set_size(2);
        header.set_mode(0o644);
        archive.append_data(&mut header, "d/inside", &b"in"[..]).unwrap();
        let bytes = archive.into_inner().unwrap().finish().unwrap();
        std::fs::write(site.context("a.tgz"), &bytes).unwrap();
        site.write("plain", "p");
        site.built("FROM scratch\nADD a.tgz plain /x/\n");
        assert_eq!(site.files(), ["x/d/inside=in", "x/plain=p"]);
    });
}

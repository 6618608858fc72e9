//! The workspace's version: it changes once, shortly after files changed.

use std::{io, io::Write, path::Path, time::Duration};

use notify::{
    Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::AccessKind,
    event::AccessMode,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout_at},
};
use uuid::Uuid;

use crate::shutdown::{Drain, Stage};

/// A save is several events (a new file, a rename, a touch) within milliseconds; it is over when nothing came for
/// this long.
const QUIET: Duration = Duration::from_millis(50);

/// A build that writes for seconds shows its progress this often.
const PATIENCE: Duration = Duration::from_millis(500);

/// Watches the folder until the drain ends. The version begins with a value of this process alone, so that a page
/// served by an earlier one sees that it is old.
///
/// A folder that cannot be watched (the system's limit of watches) is served without reloading; stderr says so.
pub(super) fn version(root: &Path, drain: &Drain) -> io::Result<watch::Receiver<String>> {
    let process = Uuid::new_v4().simple().to_string();
    let (send, version) = watch::channel(format!("{process}-0"));
    let (changed, changes) = mpsc::channel(1);
    let watcher = match watcher(root, changed) {
        Ok(watcher) => watcher,
        Err(error) => {
            writeln!(
                io::stderr().lock(),
                "pages will not reload by themselves: cannot watch {}: {error}",
                root.display()
            )?;
            // The channel stays open, else the sockets of the pages would end at once.
            let stop = drain.clone();
            drain.spawn("unwatched", async move {
                stop.reached(Stage::Draining).await;
                drop(send);
            });
            return Ok(version);
        }
    };
    let mut count = 0_u64;
    drain.spawn("watch", {
        let stop = drain.clone();
        async move {
            let _watcher = watcher;
            let bump = || {
                count += 1;
                send.send_replace(format!("{process}-{count}"));
            };
            tokio::select! {
                () = settled(changes, bump) => {}
                () = stop.reached(Stage::Draining) => {}
            }
        }
    });
    Ok(version)
}

/// One place in the channel is enough: it says that there was something, not how much.
fn watcher(root: &Path, changed: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let from = root.to_owned();
    let told = move |event: notify::Result<Event>| {
        // An error is a lost event: better one reload too many.
        if event.is_ok_and(|event| !matters(&from, &event)) {
            return;
        }
        let _ = changed.try_send(());
    };
    let mut watcher = RecommendedWatcher::new(told, Config::default().with_follow_symlinks(false))?;
    watcher.watch(root, RecursiveMode::Recursive)?;
    Ok(watcher)
}

/// Whether a page may look different after this: reads do not count, nor do dot files (the editor's own saves pass
/// through one), nor what editors leave beside a file they save, nor installed packages.
fn matters(root: &Path, event: &Event) -> bool {
    let write = match event.kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    };
    let unseen = |path: &std::path::PathBuf| {
        let names = path
            .strip_prefix(root)
            .unwrap_or(path)
            .iter()
            .map(|name| name.to_string_lossy());
        names.into_iter().any(|name| {
            name.starts_with('.') || name.ends_with('~') || name == "4913" || name == "node_modules"
        })
    };
    write && (event.need_rescan() || !event.paths.iter().all(unseen))
}

/// Calls `done` once for each burst of changes; returns when nothing can come any more.
async fn settled(mut changes: mpsc::Receiver<()>, mut done: impl FnMut()) {
    while changes.recv().await.is_some() {
        let latest = Instant::now() + PATIENCE;
        while let Ok(Some(())) =
            timeout_at(latest.min(Instant::now() + QUIET), changes.recv()).await
        {}
        done();
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, path::PathBuf};

    use notify::event::{CreateKind, ModifyKind, RenameMode};
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_counts_once_and_a_long_one_shows_its_progress() {
        let (send, changes) = mpsc::channel(1);
        let count = Cell::new(0);
        let burst = async {
            for _ in 0..3 {
                let _ = send.try_send(());
                sleep(Duration::from_millis(20)).await;
            }
            sleep(Duration::from_millis(60)).await;
            assert_eq!(count.get(), 1, "create, rename and modify are one save");
            for _ in 0..60 {
                let _ = send.try_send(());
                sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(count.get(), 3, "1.2 s of writing: two reloads so far");
            drop(send);
        };
        tokio::join!(settled(changes, || count.set(count.get() + 1)), burst);
        assert_eq!(count.get(), 4);
    }

    #[test]
    fn only_what_a_page_can_show_matters() {
        let root = Path::new("/w");
        let event = |kind, paths: &[&str]| Event {
            kind,
            paths: paths.iter().map(PathBuf::from).collect(),
            attrs: Default::default(),
        };
        let create = EventKind::Create(CreateKind::File);
        let rename = EventKind::Modify(ModifyKind::Name(RenameMode::Both));
        assert!(matters(root, &event(create, &["/w/index.html"])));
        assert!(matters(
            root,
            &event(rename, &["/w/.index.html.tmp", "/w/index.html"])
        ));
        assert!(matters(
            Path::new("/w/.cache"),
            &event(create, &["/w/.cache/index.html"])
        ));
        for path in [
            "/w/.index.html.tmp",
            "/w/.git/index",
            "/w/a/index.html~",
            "/w/node_modules/a/b.js",
        ] {
            assert!(!matters(root, &event(create, &[path])), "{path}");
        }
        assert!(!matters(
            root,
            &event(EventKind::Access(AccessKind::Read), &["/w/index.html"])
        ));
    }
}

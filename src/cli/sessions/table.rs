//! Sessions in columns.

use serde::Deserialize;

/// A session as the admin API tells of it, as far as it is shown.
#[derive(Debug, Deserialize)]
pub(super) struct Session {
    id: String,
    state: String,
    project: Option<String>,
    user: Option<String>,
    profile: Option<String>,
    created: Option<String>,
    used: Option<String>,
    stop: Option<String>,
    because: Option<String>,
    protected: Option<bool>,
    #[serde(default)]
    services: Vec<Service>,
}

#[derive(Debug, Deserialize)]
struct Service {
    name: String,
    state: String,
    address: Option<String>,
    stage: Option<String>,
    position: Option<usize>,
    reason: Option<String>,
    detail: Option<String>,
}

/// Why a session is not there, as the admin API tells it.
#[derive(Debug, Deserialize)]
pub(super) struct Explanation {
    id: String,
    state: Option<String>,
    summary: String,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
struct Step {
    step: String,
    service: Option<String>,
    state: String,
    title: String,
    since: Option<String>,
    position: Option<usize>,
    reason: Option<String>,
    code: Option<String>,
    detail: Option<String>,
    waiting_helps: Option<bool>,
    retry: Option<String>,
}

/// Above the columns of a list.
const HEADS: [&str; 5] = ["ID", "STATE", "PROJECT", "USER", "USED"];

/// All sessions, one on each line.
pub(super) fn list(sessions: &[Session]) -> String {
    let mut rows = vec![HEADS.map(str::to_owned)];
    rows.extend(sessions.iter().map(Session::cells));
    columns(&rows)
}

/// Those that nobody has used for long, and whether they are kept all the same.
pub(super) fn unused(sessions: &[Session]) -> String {
    let row = |[id, state, project, user, used]: [String; 5], last: &str| {
        [id, state, project, user, used, last.to_owned()]
    };
    let mut rows = vec![row(HEADS.map(str::to_owned), "PROTECTED")];
    rows.extend(sessions.iter().map(|session| {
        let protected = match session.protected {
            Some(true) => "yes",
            Some(false) => "no",
            // Of a gateway that is older than this program.
            None => "-",
        };
        row(session.cells(), protected)
    }));
    columns(&rows)
}

/// A session on a line of those that are watched, or their heads. Nobody knows how wide those to come are.
pub(super) fn watched(session: Option<&Session>) -> anyhow::Result<String> {
    let line = |id: &str, state: &str, user: &str, waits: &str| {
        let line = format!("{id:36}  {state:8}  {user:8}  {waits}");
        format!("{}\n", printable(line.trim_end()))
    };
    let Some(session) = session else {
        return Ok(line("ID", "STATE", "USER", "WAITS FOR"));
    };
    let waits = session.services.iter().find_map(Service::waits);
    let waits = match (waits, session.stops()) {
        (Some(waits), _) => waits,
        (None, Some(stop)) => format!("stop at {stop}"),
        (None, None) => String::new(),
    };
    let user = or_dash(session.user.as_ref());
    Ok(line(&session.id, &session.state, &user, &waits))
}

/// One session with its services.
pub(super) fn show(session: &Session) -> String {
    let facts = [
        ["id".to_owned(), session.id.clone()],
        ["state".to_owned(), session.state.clone()],
        ["project".to_owned(), or_dash(session.project.as_ref())],
        ["user".to_owned(), or_dash(session.user.as_ref())],
        ["profile".to_owned(), or_dash(session.profile.as_ref())],
        ["created".to_owned(), time(session.created.as_ref())],
        ["used".to_owned(), time(session.used.as_ref())],
        ["stop".to_owned(), or_dash(session.stops().as_ref())],
    ];
    if session.services.is_empty() {
        return columns(&facts);
    }
    let mut rows = vec![["SERVICE", "STATE", "ADDRESS", "WAITS FOR"].map(str::to_owned)];
    rows.extend(session.services.iter().map(|service| {
        [
            service.name.clone(),
            service.state.clone(),
            or_dash(service.address.as_ref()),
            or_dash(service.waits().as_ref()),
        ]
    }));
    format!("{}\n{}", columns(&facts), columns(&rows))
}

/// Every condition of a session's being there.
pub(super) fn explain(told: &Explanation) -> String {
    let facts = [
        ["id".to_owned(), told.id.clone()],
        ["state".to_owned(), or_dash(told.state.as_ref())],
        ["summary".to_owned(), told.summary.clone()],
    ];
    let mut rows = vec![["STEP", "STATE", "SINCE", "WHAT"].map(str::to_owned)];
    rows.extend(told.steps.iter().map(|step| {
        let name = match &step.service {
            Some(service) => format!("{} {service}", step.step),
            None => step.step.clone(),
        };
        [
            name,
            step.state.clone(),
            time(step.since.as_ref()),
            step.what(),
        ]
    }));
    format!("{}\n{}", columns(&facts), columns(&rows))
}

impl Session {
    /// What is on its line of a list, below `HEADS`.
    fn cells(&self) -> [String; 5] {
        [
            self.id.clone(),
            self.state.clone(),
            or_dash(self.project.as_ref()),
            or_dash(self.user.as_ref()),
            time(self.used.as_ref()),
        ]
    }

    /// When it will be stopped by itself, and why.
    fn stops(&self) -> Option<String> {
        let at = seconds(self.stop.as_ref()?);
        Some(match &self.because {
            Some(because) => format!("{at} ({because})"),
            None => at,
        })
    }
}

impl Service {
    /// What it waits for, or why it waits for nothing any more.
    fn waits(&self) -> Option<String> {
        match (&self.reason, &self.stage, self.position) {
            (Some(reason), ..) => Some(join(reason, self.detail.as_ref())),
            (None, Some(stage), Some(position)) => Some(format!("{stage}, number {position}")),
            (None, Some(stage), None) => Some(stage.clone()),
            (None, None, _) => None,
        }
    }
}

impl Step {
    fn what(&self) -> String {
        let mut what = match (&self.reason, &self.code, self.position) {
            (Some(reason), Some(code), _) => {
                join(&format!("{code}: {reason}"), self.detail.as_ref())
            }
            (Some(reason), None, _) => join(reason, self.detail.as_ref()),
            (None, _, Some(position)) => format!("{}: number {position}", self.title),
            (None, _, None) => self.title.clone(),
        };
        if self.state == "failed" {
            what += match self.waiting_helps {
                Some(true) => " (waiting can help)",
                Some(false) => " (waiting does not help)",
                None => "",
            };
            if let Some(retry) = &self.retry {
                what = format!("{what}; started again from {} on", seconds(retry));
            }
        }
        what
    }
}

fn join(reason: &str, detail: Option<&String>) -> String {
    match detail {
        Some(detail) => format!("{reason}: {detail}"),
        None => reason.to_owned(),
    }
}

fn time(time: Option<&String>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| seconds(time))
}

/// A time of day without the parts of a second.
fn seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => time.to_owned(),
    }
}

fn or_dash(text: Option<&String>) -> String {
    match text {
        Some(text) if !text.is_empty() => text.clone(),
        Some(_) | None => "-".to_owned(),
    }
}

/// Each column as wide as its widest cell. Control characters, which a reason may bring along, reach no terminal.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> = rows
        .iter()
        .map(|row| row.each_ref().map(|cell| printable(cell)))
        .collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let line: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn printable(cell: &str) -> String {
    cell.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn session(id: &str, project: Option<&str>) -> Session {
        let service = json!({
            "name": "chat", "state": "failed", "address": null, "reason": "exit 1", "detail": "\u{1b}[2J\nno",
        });
        let session = json!({
            "id": id, "state": "running", "project": project, "user": "7", "used": null, "services": [service],
            "created": "2026-01-02T03:04:05.678Z",
        });
        serde_json::from_value(session).unwrap()
    }

    #[test]
    fn columns_are_aligned_and_hold_no_control_characters() {
        insta::assert_snapshot!(list(&[session("a", Some("1234567890")), session("bcd", None)]), @r"
        ID   STATE    PROJECT     USER  USED
        a    running  1234567890  7     -
        bcd  running  -           7     -
        ");
        insta::assert_snapshot!(show(&session("a", Some("1"))), @r"
        id       a
        state    running
        project  1
        user     7
        profile  -
        created  2026-01-02T03:04:05Z
        used     -
        stop     -

        SERVICE  STATE   ADDRESS  WAITS FOR
        chat     failed  -        exit 1:  [2J no
        ");
    }
}

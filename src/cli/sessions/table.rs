//! Sessions in columns.

use serde::Deserialize;

/// A session as the admin API tells of it, as far as it is shown.
#[derive(Debug, Deserialize)]
pub(super) struct Session {
    id: String,
    state: String,
    project: Option<String>,
    user: Option<String>,
    used: Option<String>,
    #[serde(default)]
    services: Vec<Service>,
}

#[derive(Debug, Deserialize)]
struct Service {
    name: String,
    state: String,
    address: Option<String>,
    reason: Option<String>,
}

/// All sessions, one on each line.
pub(super) fn list(sessions: &[Session]) -> String {
    let mut rows = vec![["ID", "STATE", "PROJECT", "USER", "USED"].map(str::to_owned)];
    rows.extend(sessions.iter().map(|session| {
        [
            session.id.clone(),
            session.state.clone(),
            or_dash(session.project.as_ref()),
            or_dash(session.user.as_ref()),
            or_dash(session.used.as_ref()),
        ]
    }));
    columns(&rows)
}

/// One session with its services.
pub(super) fn show(session: &Session) -> String {
    let facts = [
        ["id".to_owned(), session.id.clone()],
        ["state".to_owned(), session.state.clone()],
        ["project".to_owned(), or_dash(session.project.as_ref())],
        ["user".to_owned(), or_dash(session.user.as_ref())],
        ["used".to_owned(), or_dash(session.used.as_ref())],
    ];
    if session.services.is_empty() {
        return columns(&facts);
    }
    let mut rows = vec![["SERVICE", "STATE", "ADDRESS", "REASON"].map(str::to_owned)];
    rows.extend(session.services.iter().map(|service| {
        [
            service.name.clone(),
            service.state.clone(),
            or_dash(service.address.as_ref()),
            or_dash(service.reason.as_ref()),
        ]
    }));
    format!("{}\n{}", columns(&facts), columns(&rows))
}

fn or_dash(text: Option<&String>) -> String {
    match text {
        Some(text) if !text.is_empty() => text.clone(),
        Some(_) | None => "-".to_owned(),
    }
}

/// Each column as wide as its widest cell. Control characters, which a reason may bring along, reach no terminal.
fn columns<const N: usize>(rows: &[[String; N]]) -> String {
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
        let service = json!({"name": "chat", "state": "failed", "address": null, "reason": "exit 1:\u{1b}[2J\nno"});
        let session = json!({
            "id": id, "state": "running", "project": project, "user": "7", "used": null, "services": [service],
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
        used     -

        SERVICE  STATE   ADDRESS  REASON
        chat     failed  -        exit 1: [2J no
        ");
    }
}

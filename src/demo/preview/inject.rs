//! Adds the reload script to a page.

/// The script, under the base path. No workspace file can be here: it has a dot.
pub(super) const CLIENT: &str = "/.session-gateway/reload.js";

/// The socket the script opens.
pub(super) const SOCKET: &str = "/.session-gateway/reload";

/// The page with the script before its last `</body>`, or at its end. UTF-16 pages stay as they are: ASCII in them
/// would be read as something else.
pub(super) fn reload(mut page: Vec<u8>, base_path: &str, version: &str) -> Vec<u8> {
    if page.starts_with(&[0xff, 0xfe]) || page.starts_with(&[0xfe, 0xff]) {
        return page;
    }
    let script =
        format!("<script src=\"{base_path}{CLIENT}\" data-version=\"{version}\"></script>");
    let end = b"</body>";
    let at = page
        .windows(end.len())
        .rposition(|window| window.eq_ignore_ascii_case(end));
    let at = at.unwrap_or(page.len());
    page.splice(at..at, script.into_bytes());
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str =
        "<script src=\"/a/.session-gateway/reload.js\" data-version=\"v\"></script>";

    fn injected(page: &str) -> String {
        String::from_utf8(reload(page.into(), "/a", "v")).unwrap()
    }

    #[test]
    fn the_script_goes_before_the_last_end_of_the_body() {
        assert_eq!(
            injected("<body>a</body>\n"),
            format!("<body>a{SCRIPT}</body>\n")
        );
        assert_eq!(
            injected("<pre></body></pre></BODY >x</BODY>"),
            format!("<pre></body></pre></BODY >x{SCRIPT}</BODY>")
        );
    }

    #[test]
    fn a_page_without_a_body_gets_it_at_the_end_and_utf_16_stays() {
        assert_eq!(injected(""), SCRIPT);
        assert_eq!(injected("<h1>Hi"), format!("<h1>Hi{SCRIPT}"));
        let wide = vec![0xff, 0xfe, b'<', 0];
        assert_eq!(reload(wide.clone(), "/a", "v"), wide);
    }
}

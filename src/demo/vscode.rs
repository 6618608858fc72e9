//! vscode: code-server where a working one is installed, else a small editor for the workspace's files.

pub(super) mod code_server;
pub(super) mod editor;
mod files;

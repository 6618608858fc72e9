// A public name with a certificate that the browser of these tests trusts, and nobody else.

import { execFileSync } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** The name. No resolver knows it: the browser is told where it is. */
export const NAME = 'gw.test';

/** Key and certificate in one PEM, made once for all that a process tests. */
export const pem = execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256',
  '-noenc', '-days', '2', '-subj', `/CN=${NAME}`, '-addext', `subjectAltName=DNS:${NAME}`, '-keyout', '-',
  '-out', '-'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });

/** What makes Chromium find the name on this machine and trust the certificate, as if it came from an authority: a
 * page that was let through with a warning may not do all that others may. */
export function flags() {
  const key = new X509Certificate(pem).publicKey.export({ type: 'spki', format: 'der' });
  const hash = createHash('sha256').update(key).digest('base64');
  return [`--host-resolver-rules=MAP ${NAME} 127.0.0.1`, `--ignore-certificate-errors-spki-list=${hash}`];
}

/** The settings of a gateway that is encrypted under the name. */
export function settings(folder) {
  const file = join(folder, 'tls.pem');
  writeFileSync(file, pem, { mode: 0o600 });
  return [`tls.certificates.main.certificate=${file}`, `tls.certificates.main.key=${file}`];
}

import react from '@vitejs/plugin-react';

// The folder of packages is shared: what Vite compiles of them stays here.
export default { plugins: [react()], cacheDir: '.vite', clearScreen: false };

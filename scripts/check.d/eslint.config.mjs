// The rules for TypeScript: strict types, no `any`, exhaustive switches, nothing forgotten.
//
// `scripts/check` runs it from the root of the repository; formatting is prettier's affair.

import js from "@eslint/js";
import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["**/dist/", "**/node_modules/", "**/generated/"] },
  js.configs.recommended,
  ...tseslint.configs.strictTypeChecked,
  ...tseslint.configs.stylisticTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true } },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "@typescript-eslint/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
      "@typescript-eslint/consistent-type-imports": ["error", { fixStyle: "inline-type-imports" }],
      // A type with an index signature reads `members["name"]`: what may be absent looks it.
      "@typescript-eslint/dot-notation": ["error", { allowIndexSignaturePropertyAccess: true }],
      // A handler may answer nothing: `void` beside other types says so.
      "@typescript-eslint/no-invalid-void-type": "off",
      // Callbacks that only tell somebody are clearest in one line.
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      // Messages hand objects with a `type` through; an interface cannot be spread into a union.
      "@typescript-eslint/consistent-type-definitions": "off",
      // JSON's own type refers to itself, which a `Record` cannot.
      "@typescript-eslint/consistent-indexed-object-style": "off",
      eqeqeq: "error",
      "no-console": "off",
    },
  },
  {
    // Node's test runner keeps the promise of a test itself.
    files: ["**/*.test.ts"],
    rules: {
      "@typescript-eslint/no-floating-promises": [
        "error",
        { allowForKnownSafeCalls: [{ from: "package", name: "test", package: "node:test" }] },
      ],
    },
  },
);

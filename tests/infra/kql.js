// Reads {tables, functions, queries} from standard input and answers, for each
// query, what Microsoft's own Kusto parser and binder think of it: faults and
// the columns that come out. It knows names and types, not data.
'use strict';
require('@kusto/language-service-next/bridge.min.js');
require('@kusto/language-service-next/Kusto.Language.Bridge.min.js');
const { Language } = global.Kusto;
const { Symbols } = Language;

function list(bridged) {
  return Array.from({ length: bridged.Count }, (_, index) => bridged.getItem(index));
}

function schema({ tables, functions }) {
  const symbols = Object.entries(tables).map(([name, columns]) => {
    const declared = Object.entries(columns).map(([column, type]) => {
      if (!Symbols.ScalarTypes.GetSymbol(type)) throw new Error(`${name}.${column}: unknown type ${type}`);
      return `['${column}']:${type}`;
    });
    return new Symbols.TableSymbol.$ctor7(name, `(${declared.join(', ')})`, null);
  });
  for (const [name, body] of Object.entries(functions)) {
    symbols.push(new Symbols.FunctionSymbol.$ctor16(name, '()', `{ ${body}\n}`, null));
  }
  const database = new Symbols.DatabaseSymbol.ctor('workspace', symbols);
  const cluster = new Symbols.ClusterSymbol.ctor('here', [database]);
  return Language.GlobalState.Default.WithCluster(cluster).WithDatabase(database);
}

function check(text, globals) {
  const code = Language.KustoCode.ParseAndAnalyze(text, globals);
  const faults = list(code.GetDiagnostics())
    .filter((one) => one.Severity !== 'Suggestion')
    .map((one) => `${one.Severity} at '${text.substr(one.Start, Math.max(one.Length, 1))}': ${one.Message}`);
  const result = code.ResultType;
  const columns = result && result.Columns ? list(result.Columns).map((one) => [one.Name, one.Type.Name]) : [];
  return { faults, columns: Object.fromEntries(columns) };
}

const chunks = [];
process.stdin.on('data', (chunk) => chunks.push(chunk));
process.stdin.on('end', () => {
  const input = JSON.parse(Buffer.concat(chunks).toString('utf8'));
  const globals = schema(input);
  const answer = Object.entries(input.queries).map(([name, text]) => [name, check(text, globals)]);
  process.stdout.write(JSON.stringify(Object.fromEntries(answer)));
});

"""The look of the report: one style sheet, put into the page itself."""

CSS = """
:root { --ink: #1f2933; --soft: #59636e; --line: #dde2e8; --faint: #f5f7f9;
        --blue: #0072b2; --red: #c44e00; --green: #007d5c; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); font: 16px/1.5 -apple-system, "Segoe UI",
       Inter, Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 28px 64px; }
h1 { font-size: 34px; line-height: 1.15; letter-spacing: -.02em; margin: 4px 0 8px; }
h2 { font-size: 23px; letter-spacing: -.01em; margin: 60px 0 6px; padding-top: 20px;
     border-top: 2px solid var(--ink); }
h3 { font-size: 17px; margin: 34px 0 6px; }
p { margin: 6px 0 12px; max-width: 78ch; }
.eyebrow { color: var(--soft); font-size: 13px; letter-spacing: .08em; text-transform: uppercase;
           margin: 0; }
.lead { font-size: 18px; color: #3c4753; }
sup { line-height: 0; font-size: .7em; }
.soft { color: var(--soft); font-weight: 400; }
.mono { font: 12.5px/1.4 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
a { color: var(--blue); text-decoration-thickness: 1px; text-underline-offset: 2px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(195px, 1fr)); gap: 14px;
         margin: 26px 0 22px; }
.card { border: 1px solid var(--line); border-top: 4px solid var(--blue); border-radius: 6px;
        padding: 13px 16px 14px; }
.card .what { color: var(--soft); font-size: 13.5px; line-height: 1.35; min-height: 2.7em;
              margin-top: 7px; }
.card .value { font-size: 30px; font-weight: 650; letter-spacing: -.02em; line-height: 1.25;
               white-space: nowrap; }
.card .more { font-size: 13.5px; line-height: 1.4; color: #3c4753; }
ul.findings { margin: 4px 0 0; padding: 0; list-style: none; }
.halves h3 { margin: 14px 0 2px; }
ul.findings li { padding: 4px 0 4px 18px; position: relative; }
ul.findings li::before { content: ""; position: absolute; left: 0; top: 13px; width: 7px;
                         height: 7px; background: var(--blue); border-radius: 50%; }
ul.findings li.warn::before { background: var(--red); border-radius: 0; }
.how { display: inline-block; font-size: 11.5px; line-height: 1.45; padding: 0 6px;
       border-radius: 9px; border: 1px solid; font-weight: 500; white-space: nowrap;
       vertical-align: .08em; }
.how.measured { background: #e2f2ec; border-color: #e2f2ec; color: #00573f; }
.how.predicted { background: #fff; border-color: #7aa7c7; color: #005a8d; }
.how.modelled { background: #fff; border: 1px dashed #b07a2c; color: #7a4a00; }
.how.other { background: var(--faint); border-color: var(--faint); color: var(--soft); }
.scroll { overflow-x: auto; margin: 12px 0 8px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; line-height: 1.4; }
th { text-align: left; vertical-align: bottom; font-weight: 600; font-size: 13px; color: #3c4753;
     padding: 6px 10px; border-bottom: 1.5px solid var(--ink); }
th .how { margin-top: 2px; }
td { padding: 7px 10px; border-bottom: 1px solid var(--line); vertical-align: top; }
.num { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td b { white-space: nowrap; }
td small { display: block; white-space: nowrap; color: var(--soft);
           font-size: 12px; line-height: 1.35; }
tr.baseline td { background: #fdf3ec; }
tr.baseline td:first-child { box-shadow: inset 3px 0 0 var(--red); }
.badge { display: inline-flex; width: 21px; height: 21px; border-radius: 50%; color: #fff;
         background: var(--blue); font-size: 12px; font-weight: 700; align-items: center;
         justify-content: center; }
.badge.baseline { background: var(--red); border-radius: 2px; transform: rotate(45deg) scale(.8); }
.badge.baseline span { transform: rotate(-45deg) scale(1.2); }
figure { margin: 14px 0 18px; }
svg { display: block; width: 100%; height: auto; }
svg.chart text { font-family: -apple-system, "Segoe UI", Inter, Roboto, "Helvetica Neue",
                 "Liberation Sans", Arial, sans-serif !important; }
figcaption, p.note { color: var(--soft); font-size: 13.5px; line-height: 1.45; max-width: 100ch;
             margin-top: 8px; }
.key { display: flex; flex-wrap: wrap; gap: 4px 20px; font-size: 13px; color: #3c4753;
       margin: 4px 0 2px; align-items: center; }
.key i { display: inline-block; width: 12px; height: 12px; margin-right: 6px; border-radius: 50%;
         vertical-align: -1px; }
.key i.diamond { border-radius: 1px; transform: rotate(45deg) scale(.8); }
.key i.box { border-radius: 3px; }
.split { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 34px;
         align-items: start; }
.halves { display: grid; grid-template-columns: repeat(auto-fit, minmax(340px, 1fr));
          gap: 0 40px; }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; font-size: 14px;
           margin: 10px 0; }
dl.facts dt { color: var(--soft); }
dl.facts dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
pre { background: var(--faint); border: 1px solid var(--line); border-radius: 6px;
      padding: 11px 14px; overflow-x: auto; white-space: pre-wrap; }
.network { border-top: 1px solid var(--line); padding: 15px 0 10px; }
.network header { display: flex; flex-wrap: wrap; gap: 2px 12px; align-items: center;
                  margin-bottom: 8px; }
.network header .numbers { margin-left: auto; font-size: 13.5px; color: #3c4753;
                           font-variant-numeric: tabular-nums; }
footer { margin-top: 56px; color: var(--soft); font-size: 13px; }
@media (max-width: 760px) { .split { grid-template-columns: 1fr; } h1 { font-size: 27px; }
  .network header .numbers { margin-left: 0; } }
@media print { main { max-width: none; padding: 0; }
  h2, .network, figure, tr { break-inside: avoid; } }
"""

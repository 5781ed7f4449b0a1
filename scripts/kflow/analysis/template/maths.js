// LaTeX to MathML by Temml (temml/), within bounds: a formula is shown set, or as it was written.

const LONGEST_FORMULA = 1500; // characters of LaTeX
const LONGEST_FORMULAS = 30000; // of all formulas in one text
const MOST_PARTS = 1000; // elements of one formula
const COMMENT = /^(?:\\[^]|[^%\\])*%/; // hides the rest of its line
const DEEPEST = 32; // elements within one another
// Definitions could expand without end; cancelto is drawn with an image, and the page loads none.
const FORBIDDEN = /\\(?:[egx]?def|(?:future)?let|global|long|(?:re)?newcommand|providecommand|cancelto)(?![A-Za-z@])/;
const PARTS = new Set((
  "math mrow mi mo mn mtext mspace mstyle mpadded mphantom mfrac msqrt mroot msub msup msubsup " +
  "munder mover munderover mmultiscripts mprescripts none mtable mtr mtd menclose"
).split(" "));
const UNSEEN_OPERATORS = /[\u2061-\u2064]/g; // MathML's own: function application, times, ...
const MATHML = "http://www.w3.org/1998/Math/MathML";

// A <math> element for a formula; null where it is shown as written.
function maths(source, display) {
  if (source.length > LONGEST_FORMULA) return null;
  if ([COMMENT, FORBIDDEN, INVISIBLE].some((kind) => kind.test(source))) return null;
  const holder = document.createElement("span");
  try {
    temml.render(source, holder, {
      displayMode: display,
      wrap: display ? "none" : "tex",
      throwOnError: true,
      trust: false,
      maxExpand: 200,
      maxSize: [10, 100], // em and points
    });
  } catch {
    return null; // not LaTeX, or LaTeX that Temml cannot read: it throws errors of several kinds
  }
  const math = holder.firstElementChild;
  return holder.childNodes.length === 1 && harmless(math) ? math : null;
}

// Whether a formula is nothing but MathML that can be seen, within the bounds. An element with an
// id could pass for one of the page's own.
function harmless(math) {
  const parts = [math, ...math.querySelectorAll("*")];
  const shown = math.textContent.replace(UNSEEN_OPERATORS, "");
  if (parts.length > MOST_PARTS || !shown.trim() || INVISIBLE.test(shown)) return false;
  return parts.every((part) => {
    let depth = 0;
    for (let each = part; each !== math; each = each.parentElement) depth++;
    const known = part.localName === "span" || (part.namespaceURI === MATHML && PARTS.has(part.localName));
    return known && depth <= DEEPEST && !part.id;
  });
}

// The loop of mean field: iterations, early stopping, and the caller's word after each.
#include "densefield/crf.h"

namespace densefield {

template <typename T>
int run_inference(Field<T>& field, const InferenceOptions<T>& options,
                  const ResultPlace<T>& place) {
  const bool wants_change = options.tolerance > 0;
  const bool may_stop = wants_change || options.after_update;
  for (int iteration = 1; iteration <= options.iterations; ++iteration) {
    if (options.interrupt) options.interrupt();
    if (iteration == options.iterations && !may_stop) {
      field.finish(place);
      return iteration;
    }
    const T change = field.update(wants_change);
    const bool stops = (options.after_update && !options.after_update(field)) ||
                       (wants_change && double(change) <= options.tolerance);
    if (stops || iteration == options.iterations) {
      field.store_result(place());
      return iteration;
    }
  }
  field.store_result(place());
  return 0;
}

template int run_inference(Field<float>&, const InferenceOptions<float>&,
                           const ResultPlace<float>&);
template int run_inference(Field<double>&, const InferenceOptions<double>&,
                           const ResultPlace<double>&);

}  // namespace densefield

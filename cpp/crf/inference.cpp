// The loop of mean field: iterations, early stopping, and the caller's word after each.
#include "densefield/crf.h"

namespace densefield {

template <typename T>
int run_inference(MeanField<T>& mean_field, const InferenceOptions<T>& options) {
  const bool wants_change = options.tolerance > 0;
  for (int iteration = 1; iteration <= options.iterations; ++iteration) {
    const T change = mean_field.update(iteration == options.iterations, wants_change);
    if (options.after_update && !options.after_update(mean_field)) return iteration;
    if (wants_change && double(change) <= options.tolerance) return iteration;
  }
  return options.iterations;
}

template int run_inference(MeanField<float>&, const InferenceOptions<float>&);
template int run_inference(MeanField<double>&, const InferenceOptions<double>&);

}  // namespace densefield
